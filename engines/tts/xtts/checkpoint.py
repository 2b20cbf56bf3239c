"""XTTS checkpoints, base and fine-tuned: from a folder to networks that are ready to run.

A base checkpoint has `config.json`, `model.pth`, `vocab.json` and perhaps `speakers_xtts.pth`. What a training run
leaves may be called `best_model.pth` or `checkpoint_<step>.pth` instead, carries the trainer's own keys and networks,
has a vocabulary of any size, and may keep the mel statistics in `mel_stats.pth`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines.tts.xtts import coqui
from engines.tts.xtts.errors import CorruptCheckpoint, MissingCheckpoint
from engines.tts.xtts.memory import memory_named
from engines.types import EngineError

_TRAINERS = ("torch_mel_spectrogram_style_encoder.", "torch_mel_spectrogram_dvae.", "dvae.")
"""Networks that only training needs."""

_SHARED = re.compile(r"gpt\.(gpt_inference\.|gpt\.wte\.|gpt\.h\.\d+\.attn\.(masked_)?bias$)")
"""Keys of older checkpoints whose numbers stand under other keys as well, or are constants."""

_SAMPLES, _SAMPLE, _ENDS = 64, 1 << 16, 1 << 20


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        folder: Where it came from.
        fingerprint: Names its configuration and weights; latents carry it.
        config: Its configuration.
        gpt: Coqui's GPT, float32, for inference.
        decoder: Coqui's HiFi-GAN decoder with the speaker encoder, for inference.
        tokenizer: Text to ids.
        mel_stats: What mel spectrograms of references are divided by, shape (80,).
        model: The whole of it, for conditioning.
        speakers: Its own voices by name, shape (32, d) and (512, 1) each.
    """

    folder: Path
    fingerprint: str
    config: coqui.Config
    gpt: nn.Module
    decoder: nn.Module
    tokenizer: coqui.Tokenizer
    mel_stats: Tensor
    model: coqui.Model
    speakers: Mapping[str, tuple[Tensor, Tensor]]


def load(folder: Path, device: str) -> Checkpoint:
    """Load a checkpoint; takes seconds and belongs off the event loop.

    Args:
        folder: Where its files lie; none of them is changed.
        device: Where coqui's modules go, such as `cpu` or `cuda:0`.

    Raises:
        MissingCheckpoint: The folder or a file isn't there.
        CorruptCheckpoint: A file is truncated, damaged or of another model.
        OutOfMemory: It doesn't fit.
    """
    config_file, vocabulary, weights = _present(folder, "config.json"), _present(folder, "vocab.json"), _weights(folder)
    with _readable(config_file, "its XTTS configuration"):
        config = coqui.read_config(config_file)
    with _readable(vocabulary, "its tokenizer"):
        tokenizer = coqui.read_tokenizer(vocabulary)
    with _readable(weights, "its weights"):
        print_ = fingerprint(config_file, weights)
        state = _state(coqui.read_weights(weights)["model"])
        _stats(folder, state)
        _fit(config, tokenizer, state)
        model = coqui.build(config, tokenizer, state, device)
    return Checkpoint(
        folder=folder,
        fingerprint=print_,
        config=config,
        gpt=model.gpt,
        decoder=model.hifigan_decoder,
        tokenizer=tokenizer,
        mel_stats=model.mel_stats,
        model=model,
        speakers=_speakers(folder / "speakers_xtts.pth"),
    )


def fingerprint(config: Path, weights: Path) -> str:
    """A name for a configuration and weights that is the same wherever the files lie.

    Of the weights, their size, both ends and samples spread over them are read: gigabytes would take seconds. The last
    part of a `.pth` file has the checksums of all tensors.
    """
    digest = hashlib.sha256(config.read_bytes())
    size = weights.stat().st_size
    digest.update(f"{size}".encode())
    with weights.open("rb") as file:
        for start in [0, *(size * sample // _SAMPLES for sample in range(1, _SAMPLES)), max(0, size - _ENDS)]:
            file.seek(start)
            digest.update(file.read(_ENDS if start + _ENDS >= size else _SAMPLE))
    return digest.hexdigest()


def _present(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise MissingCheckpoint(f"XTTS_MODEL_PATH names no folder: {folder}. Put a checkpoint there.")
    file = folder / name
    if not file.is_file():
        raise MissingCheckpoint(f"The XTTS checkpoint in {folder} has no {name}; copy it from the model's source.")
    return file


def _weights(folder: Path) -> Path:
    """The weights' file: the base's name, else the best of a training run, else its newest."""
    steps = {
        int(found[1]): file for file in folder.iterdir() if (found := re.fullmatch(r"checkpoint_(\d+)\.pth", file.name))
    }
    for file in (folder / "model.pth", folder / "best_model.pth", *(steps[step] for step in sorted(steps)[-1:])):
        if file.is_file():
            return file
    raise MissingCheckpoint(
        f"The XTTS checkpoint in {folder} has no weights: model.pth, best_model.pth or checkpoint_<step>.pth."
    )


def _state(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the keys of coqui's network, without those of its trainer."""
    plain = {key.removeprefix("xtts."): tensor for key, tensor in saved.items()}
    return {key: tensor for key, tensor in plain.items() if not key.startswith(_TRAINERS) and not _SHARED.match(key)}


def _stats(folder: Path, state: dict[str, Tensor]) -> None:
    """Take the mel statistics from their own file where the weights have none."""
    file = folder / "mel_stats.pth"
    if "mel_stats" not in state and file.is_file():
        with _readable(file, "its mel statistics"):
            state["mel_stats"] = torch.load(file, map_location="cpu", weights_only=True)


def _fit(config: coqui.Config, tokenizer: coqui.Tokenizer, state: Mapping[str, Tensor]) -> None:
    """Let the configuration say what the weights and the tokenizer say."""
    arguments, known = config.model_args, len(state["gpt.text_embedding.weight"])
    if tokenizer.get_number_tokens() > known:
        raise ValueError(f"vocab.json has {tokenizer.get_number_tokens()} tokens, the weights know {known}")
    start, stop = coqui.token_id(tokenizer, "[START]"), coqui.token_id(tokenizer, "[STOP]")
    if start is None or stop is None:
        raise ValueError("vocab.json has no [START] or no [STOP]")
    arguments.gpt_number_text_tokens = known
    arguments.gpt_start_text_token, arguments.gpt_stop_text_token = start, stop


def _speakers(file: Path) -> dict[str, tuple[Tensor, Tensor]]:
    if not file.is_file():
        return {}
    with _readable(file, "its speakers"):
        found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return {
            name: (speaker["gpt_cond_latent"][0].float(), speaker["speaker_embedding"][0].float())
            for name, speaker in found.items()
        }


@contextmanager
def _readable(file: Path, what: str) -> Iterator[None]:
    """Name the file where reading it, or fitting it to the network, fails."""
    try:
        with memory_named():
            yield
    except EngineError:
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise MissingCheckpoint(f"{file} can't be read: {error.strerror}. Check its permissions.") from error
    except Exception as error:  # torch, json, tokenizers and coqui-tts agree on no class for a file that isn't theirs
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CorruptCheckpoint(
            f"{file} is damaged or of another model than XTTS v2 ({reason[0]}); {what} can't be used. Copy it anew."
        ) from error
