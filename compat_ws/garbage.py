"""Takes away what conversations leave behind, again and again, in pauses too short to be heard.

A conversation's parts refer to one another in circles, and so do exceptions and the frames they were raised in, which
hold the sound they worked on. Only the garbage collector finds those, and on its own it looks at what has lived for a
while hours later: a process that holds many calls for a day would grow for hours. What was imported is frozen
(compat_ws/__main__.py), so that a whole collection looks at the conversations' objects alone: some 20 ms
of processor for four of them.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import NoReturn

EVERY = 20.0
"""Seconds between two collections at least."""
SHARE = 0.002
"""Share of the time that collections may take; with very many conversations they become rarer."""


async def sweep(every: float = EVERY) -> NoReturn:
    """Collect until cancelled."""
    pause = every
    while True:
        await asyncio.sleep(pause)
        began = time.thread_time()
        gc.collect()
        pause = max(every, (time.thread_time() - began) / SHARE)
