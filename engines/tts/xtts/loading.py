"""A loaded checkpoint with its worker, from a folder; blocking, so it runs off the event loop."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch

from engines.tts.xtts import checkpoint
from engines.tts.xtts.backends import choose, vocoder
from engines.tts.xtts.batch import Batch
from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.reply import Reply
from engines.tts.xtts.sampling import Sampling
from engines.tts.xtts.worker import Worker
from engines.types import EngineUnavailable

logger = logging.getLogger("voice_node.xtts")

MOST_STREAMS_CPU, MOST_STREAMS_GPU = 8, 32
"""Replies at once that are tried for where nobody says how many; each full-size slot takes 250 MB in fp32."""

WITHIN = 180.0
"""Seconds in which the first measurement must be done."""


@dataclass(frozen=True, slots=True)
class Options:
    """How checkpoints are run, from the settings of the same names."""

    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    streams: int = 0


@dataclass(eq=False)
class Loaded:
    """A checkpoint that speaks.

    Attributes:
        stamp: The state of its files when it was loaded.
        replies: Those that it speaks now; kept in the event loop, as `held` is.
        held: How many were let in: those, and those whose voice is being looked up.
    """

    checkpoint: Checkpoint
    worker: Worker
    device: str
    precision: str
    stamp: str
    replies: list[Reply] = field(default_factory=list)
    held: int = 0


def load(folder: Path, options: Options) -> Loaded:
    """Load a checkpoint, start its worker, and measure how fast it is.

    Raises:
        EngineNotConfigured: The checkpoint is missing or damaged, or the settings ask for what isn't there.
        EngineUnavailable: It doesn't fit into memory, or doesn't work.
    """
    device = chosen_device(options.device)
    seen = stamp(folder)
    loaded = checkpoint.load(folder, device)
    backend = choose(options.backend, options.precision, device)
    streams = options.streams or (MOST_STREAMS_GPU if device.startswith("cuda") else MOST_STREAMS_CPU)

    def make_batch() -> Batch:
        return Batch(loaded, backend, streams + spare(streams))

    worker = Worker(
        make_batch, vocoder(loaded.decoder, backend), Sampling.of(loaded.config), any_latents(loaded), streams
    )
    if not worker.measured.wait(WITHIN) or worker.trouble:
        worker.close()
        raise EngineUnavailable(
            worker.trouble or f"XTTS didn't make a sound within {WITHIN:g} s; use a faster machine."
        )
    cost = worker.cost
    logger.info(
        "XTTS is ready",
        extra={
            "checkpoint": loaded.fingerprint[:16],
            "device": device,
            "precision": backend.precision,
            "step_ms": round(cost.step_of(1) * 1000, 1),
            "vocoder_ms_per_code": round(cost.per_code * 1000, 1),
            "replies_at_once": options.streams or cost.most(streams),
        },
    )
    return Loaded(loaded, worker, device, backend.precision, seen)


def spare(streams: int) -> int:
    """Slots beyond those of the streams, in which replies make their next piece of text ahead."""
    return max(1, streams // 4)


def chosen_device(device: str) -> str:
    """The device that a setting means.

    Raises:
        MissingCheckpoint: There is no such device.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    return device


def stamp(folder: Path) -> str:
    """What changes when a checkpoint's files are rewritten; empty while there is none."""
    parts = []
    try:
        for file in sorted(folder.iterdir()):
            if file.suffix in (".json", ".pth"):
                seen = file.stat()
                parts.append(f"{file.name}:{seen.st_mtime_ns}:{seen.st_size}")
    except OSError:
        return ""
    return " ".join(parts)


def any_latents(loaded: Checkpoint) -> Latents:
    """Latents of nobody, which fit the checkpoint."""
    width = loaded.config.model_args.gpt_n_model_channels
    return Latents(torch.zeros(32, width), torch.zeros(512, 1), loaded.fingerprint)
