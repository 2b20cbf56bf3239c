"""Whether int8 is as good as fp32 on real XTTS weights: words that Whisper hears, and likeness of the voice."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engines.tts.xtts import checkpoint as checkpoints
from engines.tts.xtts.backends import choose, vocoder
from engines.tts.xtts.batch import Batch
from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.network import Backend
from engines.tts.xtts.sampling import Sampling
from engines.tts.xtts.vocoder import SpeechWindow
from engines.types import SPOKEN_RATE, Audio

SENTENCES = (
    "The ferry leaves at seven in the morning and comes back late in the evening.",
    "I looked it up for you, and the shop on the corner is open until nine today.",
    "Please wait a moment while I ask the others what they think about your plan.",
    "It rained all night, but the road along the river is dry again this morning.",
    "She has lived in the same small house by the harbour for more than forty years.",
    "Take the second street on the left, and you will see the station in front of you.",
    "My brother plays the violin, though he would much rather play the drums.",
    "We could meet for breakfast tomorrow, unless you would rather sleep late.",
)
SEEDS = 3
VOICES = 4


def print_quality(folder: Path, device: str, whisper: str, as_json: bool) -> None:
    """Speak all sentences in several voices with several seeds, with fp32 and int8, and compare.

    Args:
        folder: A checkpoint of real weights with speakers of its own.
        device: Where coqui's modules go; int8 runs on `cpu` only.
        whisper: faster-whisper's model that listens.
        as_json: Print JSON.
    """
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        raise SystemExit("--quality listens with faster-whisper: pip install faster-whisper") from None
    listener: Any = WhisperModel(whisper, device="cpu", compute_type="int8")

    def heard(audio: Audio) -> str:
        segments, _ = listener.transcribe(at_16_khz(audio), language="en", beam_size=5)
        return " ".join(segment.text for segment in segments)

    figures = compare(folder, device, heard)
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    print(
        "| precision | word error rate, % | likeness to the voice (cosine) | sentences |", "| --- " * 4 + "|", sep="\n"
    )
    for precision, found in figures.items():
        print(
            f"| {precision} | {100 * found['word_error_rate']:.2f} | {found['speaker_similarity']:.3f}"
            f" ± {found['speaker_similarity_deviation']:.3f} | {found['sentences']} |"
        )


def compare(
    folder: Path,
    device: str,
    heard: Callable[[Audio], str],
    *,
    sentences: Sequence[str] = SENTENCES,
    seeds: int = SEEDS,
    voices: int = VOICES,
) -> dict[str, dict[str, float]]:
    """What is heard of a checkpoint's speakers, in fp32 and in int8.

    Args:
        folder: The checkpoint.
        device: Where coqui's modules go.
        heard: What somebody understands of speech, 24 kHz.
        sentences: What is said, each by every voice with every seed.
        seeds: How many seeds.
        voices: How many of the checkpoint's speakers at most.
    """
    loaded = checkpoints.load(folder, device)
    if not loaded.speakers:
        raise SystemExit(f"--quality needs a checkpoint with speakers_xtts.pth; {folder} has none.")
    figures = {}
    for precision in ("fp32", "int8"):
        errors, likeness = [], []
        backend = choose("auto", precision, device)
        for name in list(loaded.speakers)[:voices]:
            latents = Latents(*loaded.speakers[name], loaded.fingerprint)
            for seed in range(seeds):
                for text, audio in zip(sentences, spoken(loaded, backend, latents, seed, sentences), strict=True):
                    errors.append(word_errors(text, heard(audio)))
                    likeness.append(alike(loaded, audio, latents))
        words = sum(len(plain(text)) for text in sentences)
        figures[precision] = {
            "word_error_rate": sum(errors) / (words * len(errors) / len(sentences)),
            "speaker_similarity": statistics.fmean(likeness),
            "speaker_similarity_deviation": statistics.stdev(likeness),
            "sentences": len(errors),
        }
    return figures


def spoken(
    loaded: Checkpoint, backend: Backend, latents: Latents, seed: int, sentences: Sequence[str] = SENTENCES
) -> list[Audio]:
    """All sentences, in one batch."""
    batch, voice = Batch(loaded, backend, len(sentences)), vocoder(loaded.decoder, backend)
    sampling = Sampling.of(loaded.config, seed)
    ids = [loaded.tokenizer.encode(text.lower(), "en") for text in sentences]
    windows = {batch.join(one, latents, sampling): SpeechWindow(latents.speaker) for one in ids}
    while made := batch.step():
        for one in made:
            windows[one.slot].push(one.latent[None])
    return voice.decode([(window, True) for window in windows.values()])


def at_16_khz(audio: Audio) -> Audio:
    """Resampled as Whisper and the speaker encoder take it."""
    import soxr

    resampled: Audio = soxr.resample(audio, SPOKEN_RATE, 16_000).astype(np.float32)
    return resampled


def alike(loaded: Checkpoint, audio: Audio, latents: Latents) -> float:
    """Cosine between the voice's embedding and that of what was spoken, by the checkpoint's own speaker encoder."""
    with torch.inference_mode():
        embedding = loaded.model.get_speaker_embedding(torch.from_numpy(at_16_khz(audio))[None], 16_000)
    return float(torch.cosine_similarity(embedding.flatten().cpu(), latents.speaker.flatten().cpu(), dim=0))


def plain(text: str) -> list[str]:
    """Words without case and punctuation."""
    return re.sub(r"[^a-z0-9' ]", " ", text.lower().replace("-", " ")).split()


def word_errors(text: str, heard: str) -> int:
    """Words to be changed, left out or put in (Levenshtein)."""
    said, got = plain(text), plain(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]
