"""Which conditioning latents a voice has: a checkpoint's own speaker's, or computed from recordings and kept.

What is computed is kept in one file for each voice and checkpoint, so that a restart finds it again. Recordings are
looked at each time a voice speaks: changed ones are computed anew, missing ones are done without.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import torch
import torchaudio
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.recordings import BadReference, decode, read, stamp
from engines.types import EngineNotConfigured, Voice

logger = logging.getLogger("voice_node.xtts")

CONDITIONING_RATE = 22_050
"""Sample rate in Hz at which coqui takes reference recordings."""

REMEMBERED = 256
"""Voices whose latents are kept in memory; others are read from their files."""

RECORDINGS = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
"""Endings of recordings that a fine-tuned checkpoint may bring along."""


@dataclass(frozen=True, slots=True)
class Own:
    """What a voice says of itself for XTTS, in `engines.xtts`: `Speaker`, `/folder`, or `/folder#Speaker`."""

    folder: Path | None
    """A checkpoint of its own."""
    speaker: str
    """One of the checkpoint's speakers; empty for none."""

    @classmethod
    def of(cls, voice: Voice) -> Own:
        """What `voice` says."""
        said = voice.engines.get("xtts", "")
        if not said.startswith(("/", "./", "../", "~")):
            return cls(None, said)
        folder, _, speaker = said.partition("#")
        return cls(Path(folder).expanduser(), speaker)


class Voices:
    """The latents of voices, computed when first needed; blocking, for any number of threads.

    Args:
        folder: Where they are kept; made when the first is.
        default: `XTTS_VOICE`: a speaker or a recording, for voices that bring nothing for XTTS.
    """

    def __init__(self, folder: Path, default: str = "") -> None:
        self._folder = folder
        self._default = default
        self._computing = threading.Lock()
        self._remembered: OrderedDict[tuple[str, str], tuple[str, Latents]] = OrderedDict()

    def latents(self, checkpoint: Checkpoint, voice: Voice) -> Latents:
        """The latents with which `checkpoint` speaks as `voice`.

        Raises:
            BadReference: A recording of the voice can't be used, or the checkpoint has no such speaker.
            EngineNotConfigured: The voice brings nothing for XTTS, and there is no default.
        """
        speakers = checkpoint.speakers
        if speaker := Own.of(voice).speaker:
            if speaker not in speakers:
                raise BadReference(
                    f"The checkpoint has no speaker '{speaker}', which the voice '{voice.id}' names; {_some(speakers)}."
                )
            return _latents(checkpoint, *speakers[speaker])
        if voice.samples:
            return self._cloned(checkpoint, voice.id, voice.samples)
        return self._default_latents(checkpoint)

    def _default_latents(self, checkpoint: Checkpoint) -> Latents:
        speakers = checkpoint.speakers
        if self._default in speakers:
            return _latents(checkpoint, *speakers[self._default])
        if self._default:
            if "://" not in self._default and not Path(self._default).expanduser().is_file():
                raise EngineNotConfigured(
                    f"XTTS_VOICE={self._default} is neither a recording nor a speaker of the checkpoint; "
                    f"{_some(speakers)}."
                )
            return self._cloned(checkpoint, "", [self._default])
        if speakers:
            return _latents(checkpoint, *next(iter(speakers.values())))
        brought = sorted(str(file) for file in checkpoint.folder.iterdir() if file.suffix.lower() in RECORDINGS)
        if brought:
            return self._cloned(checkpoint, "", brought[:1])
        raise EngineNotConfigured(
            "The XTTS checkpoint has no speakers of its own, and the voice no samples; set XTTS_VOICE to a recording."
        )

    def _cloned(self, checkpoint: Checkpoint, id: str, samples: Sequence[str]) -> Latents:
        stamps = json.dumps([[address, stamp(address)] for address in samples])
        key = (id, checkpoint.fingerprint)
        with self._computing:
            seen, latents = self._remembered.get(key, ("", None))
            if latents is None or seen != stamps:
                latents = self._found_or_computed(checkpoint, id, samples, stamps)
            self._remembered[key] = (stamps, latents)
            self._remembered.move_to_end(key)
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
            return latents

    def _found_or_computed(self, checkpoint: Checkpoint, id: str, samples: Sequence[str], stamps: str) -> Latents:
        file = self._folder / f"{quote(id, safe='') or '.default'}.{checkpoint.fingerprint[:16]}.safetensors"
        found = _stored(file, checkpoint)
        if found is not None and found.meta.get("stamps") == stamps and all(map(stamp, samples)):
            return found.latents
        try:
            recordings = [read(address) for address in samples]
        except BadReference as error:
            if found is None or found.meta.get("samples") != json.dumps(list(samples)):
                raise
            logger.warning("a voice's recordings are gone; it speaks as they were", extra={"reason": error.message})
            return found.latents
        content = _content(recordings, checkpoint)
        if found is not None and found.meta.get("content") == content:
            latents = found.latents
        else:
            seconds = checkpoint.config.max_ref_len
            sounds = [decode(data, address, seconds) for data, address in zip(recordings, samples, strict=True)]
            latents = condition(checkpoint, [_at_rate(torch.from_numpy(sound), rate) for sound, rate in sounds])
        meta = {
            "checkpoint": checkpoint.fingerprint,
            "content": content,
            "samples": json.dumps(list(samples)),
            "stamps": stamps,
        }
        try:
            _store(file, latents, meta)
        except OSError as error:
            logger.warning("a voice's latents can't be kept and will be computed again", extra={"reason": str(error)})
        return latents


@torch.inference_mode()
def condition(checkpoint: Checkpoint, recordings: Sequence[torch.Tensor]) -> Latents:
    """The latents of a voice, as coqui computes them; there is nothing random in it.

    Args:
        checkpoint: Whose.
        recordings: Mono samples of one speaker, 22,050 Hz, each of shape (n,).
    """
    config, model = checkpoint.config, checkpoint.model
    used = [sound[: CONDITIONING_RATE * config.max_ref_len].unsqueeze(0) for sound in recordings]
    if config.sound_norm_refs:
        used = [sound / sound.abs().max() * 0.75 for sound in used]
    speaker = torch.stack([model.get_speaker_embedding(sound.clone(), CONDITIONING_RATE) for sound in used]).mean(0)
    style = model.get_gpt_cond_latents(
        torch.cat(used, dim=-1), CONDITIONING_RATE, length=config.gpt_cond_len, chunk_length=config.gpt_cond_chunk_len
    )
    return _latents(checkpoint, style, speaker)


def _latents(checkpoint: Checkpoint, style: torch.Tensor, speaker: torch.Tensor) -> Latents:
    # Copies, so that they are usual tensors, with nothing of the batch they came from behind them.
    with torch.inference_mode(False):
        return Latents(
            style.detach().reshape(-1, style.shape[-1]).clone().float(),
            speaker.detach().reshape(-1, 1).clone().float(),
            checkpoint.fingerprint,
        )


def _at_rate(sound: torch.Tensor, rate: int) -> torch.Tensor:
    """At the rate of conditioning, resampled as coqui does, and clipped."""
    if rate != CONDITIONING_RATE:
        sound = torchaudio.functional.resample(sound, rate, CONDITIONING_RATE)
    return sound.clip(-1, 1)


def _content(recordings: Sequence[bytes], checkpoint: Checkpoint) -> str:
    """A digest of all that the latents are computed from."""
    config = checkpoint.config
    how = [config.max_ref_len, config.gpt_cond_len, config.gpt_cond_chunk_len, config.sound_norm_refs]
    parts = [json.dumps(how), *(hashlib.sha256(data).hexdigest() for data in recordings)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Found:
    latents: Latents
    meta: Mapping[str, str]


def _stored(file: Path, checkpoint: Checkpoint) -> _Found | None:
    """What a file holds; None where there is none, or none that can be used."""
    try:
        with safe_open(file, "pt") as opened:
            meta = opened.metadata() or {}
            latents = Latents(opened.get_tensor("gpt"), opened.get_tensor("speaker"), meta.get("checkpoint", ""))
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError) as error:
        logger.warning("stored latents are damaged; computing them anew", extra={"reason": str(error)})
        return None
    return _Found(latents, meta) if latents.checkpoint == checkpoint.fingerprint else None


def _store(file: Path, latents: Latents, meta: Mapping[str, str]) -> None:
    """Write a file whole or not at all: another process may read it meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"gpt": latents.gpt.contiguous().cpu(), "speaker": latents.speaker.contiguous().cpu()}
    unfinished = file.with_suffix(f".{threading.get_ident()}.part")
    unfinished.write_bytes(save(tensors, dict(meta)))
    unfinished.replace(file)


def _some(speakers: Mapping[str, object]) -> str:
    """The first names, for a message."""
    if not speakers:
        return "it has none"
    names = list(speakers)
    return f"it has {', '.join(names[:5])}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
