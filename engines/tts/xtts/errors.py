"""What can go wrong in the XTTS engine, by name; every message says what to do about it."""

from __future__ import annotations

from engines.types import EngineBadInput, EngineFull, EngineNotConfigured, EngineUnavailable


class MissingCheckpoint(EngineNotConfigured):
    """The folder of a checkpoint, or one of its files, isn't there."""


class CorruptCheckpoint(EngineNotConfigured):
    """A file of a checkpoint is truncated, damaged, or of another model."""


class NoSuchBackend(EngineNotConfigured):
    """The settings ask for a backend or precision that there isn't, or that doesn't run on the device."""


class ForeignLatents(EngineBadInput):
    """A voice's latents come from another checkpoint, or aren't latents at all."""


class UnspeakableText(EngineBadInput):
    """A text has more tokens than a checkpoint takes, or tokens that it doesn't know."""


class UnknownLanguage(EngineBadInput):
    """A language that XTTS, or a checkpoint of it, doesn't speak."""


class BadSampling(EngineBadInput):
    """A sampling setting is outside its range."""


class NoFreeSlot(EngineFull):
    """Every slot of a batch is taken."""


class OutOfMemory(EngineUnavailable):
    """The device has no memory left for one more stream or step."""


class BrokenStream(EngineUnavailable):
    """A stream's numbers overflowed, so that its codes mean nothing any more."""
