"""Time as the leases see it, so that tests can set it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The machine's time, unless told otherwise."""

    now: Callable[[], float] | None = None
    """Unix seconds; None for the clock that all processes on the database share (`Database.moment`)."""
    steady: Callable[[], float] = time.monotonic
    """Seconds of a clock that nobody sets, to judge this process's own delays."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


REAL = Clock()
