"""What can go wrong with a local chat model, by name; each message says what to do about it."""

from __future__ import annotations

from engines.types import EngineBadInput, EngineError, EngineFull, EngineNotConfigured, EngineUnavailable


class ModelMissing(EngineNotConfigured):
    """The model isn't on this machine."""


class ModelIncomplete(EngineNotConfigured):
    """A part of the model is missing or was downloaded halfway."""


class ModelUnsuitable(EngineNotConfigured):
    """The model loads, but can't hold a conversation, or not in this engine."""


class PackageMissing(EngineNotConfigured):
    """What was asked for needs a package that isn't installed."""


class NoFreeSlot(EngineFull):
    """Every slot holds a reply."""


class OutOfMemory(EngineUnavailable):
    """The device has no memory left."""


class BrokenReply(EngineError):
    """The model lost this one reply; the others go on."""


class TooLong(EngineBadInput):
    """The personality and the newest message alone are more than the model's context holds."""


class WorkerDied(EngineUnavailable):
    """The thread that computes replies ended; the next reply starts another one."""
