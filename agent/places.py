"""A worker's places: how many conversations it holds and may hold, instead of how busy its processor is.

LiveKit's own load is the processor's, with a threshold of 0.7: a machine whose engines are at work then
refuses rooms it could serve. Here a room is accepted exactly while a place is free, also when several
ask at once, and the load reported is the share of places taken, so that of several workers the emptiest
gets the next room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from livekit.agents import JobRequest

from engines.tally import tally

logger = logging.getLogger("voice_node.agent")

PER_CORE = 4
"""Conversations a core holds. Measured with a question every five seconds: a room's job takes 13 % of a core and its
embedded recognizer 6 %; the rest is left to livekit-server, the other parts and peaks."""


def default_limit(cores: float, engine_limits: Collection[int | None]) -> int:
    """How many conversations a worker holds where nobody says.

    Args:
        cores: Processor cores this process may use.
        engine_limits: What each of its engines accepts at once; None for one without a limit of its own.
    """
    by_cores = max(1, int(cores * PER_CORE))
    return max(1, min([by_cores, *(limit for limit in engine_limits if limit is not None)]))


class Places:
    """Counts a worker's conversations and answers LiveKit's requests by that count.

    Args:
        limit: Conversations held at once.
        running: Gives the ids of the jobs under way.
        tell: Tells the other processes what is free; awaited beside each acceptance, so that whoever asks for a place
            knows of this one before its conversation begins. Must not raise.
    """

    def __init__(
        self, limit: int, running: Callable[[], Collection[str]], tell: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.limit = limit
        self._running = running
        self._tell = tell or _nobody
        self._accepted: set[str] = set()

    @property
    def held(self) -> int:
        """Places taken: jobs under way and those accepted a moment ago."""
        return len(self._accepted.union(self._running()))

    @property
    def free(self) -> int:
        """Places left."""
        return max(0, self.limit - self.held)

    def load(self) -> float:
        """The share of places taken, 0 to 1; LiveKit gives a room to the worker with the lowest."""
        return min(1.0, self.held / self.limit)

    async def answer(self, request: JobRequest) -> None:
        """Accept a job if a place is free, else leave it to another worker at once."""
        if self.free == 0:
            logger.warning("a room was refused, every place is taken", extra={"held": self.held, "limit": self.limit})
            tally("calls_refused", transport="room", reason="job_refused")
            await request.reject(terminate=False)
            return
        self._accepted.add(request.id)
        telling = asyncio.ensure_future(self._tell())
        try:
            await request.accept()
            await telling
        finally:
            telling.cancel()
            self._accepted.discard(request.id)


async def _nobody() -> None:
    """Tell nobody."""
