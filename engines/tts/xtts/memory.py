"""Naming what torch says when memory runs out: a GPU has an error of its own for it, a CPU only words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engines.tts.xtts.errors import OutOfMemory


@contextmanager
def memory_named() -> Iterator[None]:
    """Turn torch's errors about memory into ours.

    Raises:
        OutOfMemory: What was done needs more memory than is left.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory("XTTS has no memory left on its device; let it hold fewer streams.") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory("XTTS has no memory left; let it hold fewer streams.") from error
