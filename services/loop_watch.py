"""Watches an event loop from a thread of its own: a loop that stands still is told of, with the place where it stands.

One call that blocks holds up every conversation of its process, and nothing on the loop itself can notice. The thread
pings the loop; what the loop's thread does while no answer comes is logged as file, line and function, never with
values.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

from engines.watchdog import bite

logger = logging.getLogger("voice_node.services")

ROUND = 0.25
"""Seconds between looks."""
LONGEST_ROUND = 0.5
"""Seconds that one look counts at most: if our own thread stood still as well, the whole process was frozen."""
STALLED_AFTER = 1.0
"""Seconds without an answer after which the loop counts as stalled; found within a `LONGEST_ROUND` more."""
FRAMES = 12
"""Innermost frames of the loop's thread that are logged."""

Verdict: TypeAlias = Literal["well", "stalled", "hopeless"]


class StallPolicy:
    """Decides from one look after the other, without a clock or thread of its own.

    Args:
        hopeless_after: Seconds of a stall after which nothing is to be hoped for; None: the process is not ours to end.
    """

    def __init__(self, hopeless_after: float | None = None) -> None:
        self._hopeless_after = hopeless_after
        self._told = False
        self.stood = 0.0
        """Seconds for which the loop hasn't answered."""

    def look(self, answered: bool, since_last: float) -> Verdict:
        """Judge one look; `stalled` is said once for each stall.

        Args:
            answered: Whether the loop has answered since the last look.
            since_last: Seconds since then.
        """
        if answered:
            self.stood = 0.0
            self._told = False
            return "well"
        self.stood += min(since_last, LONGEST_ROUND)
        if self._hopeless_after is not None and self.stood >= self._hopeless_after:
            return "hopeless"
        if self.stood >= STALLED_AFTER and not self._told:
            self._told = True
            return "stalled"
        return "well"


class LoopWatch:
    """The thread that watches the running loop; start it on that loop.

    Args:
        policy: Decides.
        end: Called in the watching thread for a loop that is beyond hope; ends the process.
    """

    def __init__(self, policy: StallPolicy | None = None, end: Callable[[], None] | None = None) -> None:
        self._policy = policy or StallPolicy()
        self._end = end
        self._answered = threading.Event()
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the watch; returns at once."""
        self._stop.set()

    def _watch(self) -> None:
        self._ping()
        last = time.monotonic()
        while not self._stop.wait(ROUND):
            now = time.monotonic()
            answered = self._answered.is_set()
            verdict = self._policy.look(answered, now - last)
            last = now
            if verdict == "stalled":
                stood, at = round(self._policy.stood, 1), where(self._watched)
                bite("stalled_loop", "the event loop stands still", seconds=stood, at=at)
            elif verdict == "hopeless" and self._end is not None:
                logger.error(
                    "the event loop stands still for good, its process ends", extra={"at": where(self._watched)}
                )
                self._end()
                return
            if answered and not self._ping():
                return

    def _ping(self) -> bool:
        """Ask for an answer; False where the loop is closed."""
        self._answered.clear()
        try:
            self._loop.call_soon_threadsafe(self._answered.set)
        except RuntimeError:
            return False
        return True


def where(thread: int) -> str:
    """What a thread is doing: its innermost frames, the outermost of them first."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "its thread has ended"
    frames = traceback.extract_stack(frame, limit=None)[-FRAMES:]
    return " > ".join(f"{'/'.join(each.filename.split('/')[-2:])}:{each.lineno} {each.name}" for each in frames)


@asynccontextmanager
async def watched_loop(policy: StallPolicy | None = None, end: Callable[[], None] | None = None) -> AsyncIterator[None]:
    """Watch the running loop while the block runs; see `LoopWatch`."""
    watch = LoopWatch(policy, end)
    watch.start()
    try:
        yield
    finally:
        watch.stop()
