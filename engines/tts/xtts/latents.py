"""A voice as XTTS hears it: conditioning latents, made by and good for one checkpoint only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Latents:
    """What a checkpoint makes of a voice's reference recordings.

    Attributes:
        gpt: What precedes every prompt of the transformer, float32, shape (32, d).
        speaker: The vocoder's speaker embedding, float32, shape (512, 1).
        checkpoint: Fingerprint of the checkpoint that made them.
    """

    gpt: Tensor
    speaker: Tensor
    checkpoint: str

    @cached_property
    def digest(self) -> bytes:
        """A key for what was computed from `gpt` with this checkpoint."""
        numbers = self.gpt.detach().contiguous().cpu().numpy().tobytes()
        return hashlib.sha256(self.checkpoint.encode() + numbers).digest()
