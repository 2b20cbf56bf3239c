"""How many conversations this process holds, and how many it may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from library.capacity import seconds_until_free

PER_CORE = 8
"""Conversations a core holds: each takes about 2 % of one, and its recognizer a tenth or more while somebody speaks."""
PER_PROCESS = 50
"""Conversations one event loop holds before turns begin to take longer."""
HANDOVER = 3.0
"""Seconds a replaced call is given to store what was said, before its conversation goes on without that."""


class Full(Exception):
    """Every place is taken, of this process or of an engine without which there is no conversation.

    Args:
        again_in: Seconds after which asking again makes sense.
    """

    def __init__(self, again_in: int) -> None:
        super().__init__(f"every place is taken; try again in {again_in} s")
        self.again_in = again_in


def default_limit(cores: int, engine_limits: Collection[int | None]) -> int:
    """How many conversations a process holds where nobody says.

    Args:
        cores: Processor cores of the machine.
        engine_limits: What each of its engines accepts at once; None for one without a limit of its own.
    """
    return max(1, min([PER_CORE * cores, PER_PROCESS, *(limit for limit in engine_limits if limit is not None)]))


class Place:
    """A conversation's place, held by one socket.

    Attributes:
        replaced: Set when another socket of this process wants the conversation.
        left: Set when the holder has stored what was said and gone.
        since: When it was taken, by the event loop's clock.
    """

    def __init__(self) -> None:
        self.since = asyncio.get_running_loop().time()
        self.replaced = asyncio.Event()
        self.left = asyncio.Event()


class Places:
    """Counts conversations, not sockets: one that replaces another of the same conversation takes its place.

    Args:
        limit: Conversations held at once, asked anew each time: a running service says only when it is asked how much
            it takes.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._taken: dict[str, Place] = {}

    @property
    def limit(self) -> int:
        """Conversations held at most."""
        return self._limit()

    @property
    def held(self) -> int:
        """Conversations held now."""
        return len(self._taken)

    def check(self, session_id: str) -> None:
        """Return if this conversation may be held now: a place is free, or it has one already.

        Raises:
            Full: Every place is taken.
        """
        if session_id not in self._taken and self.held >= self.limit:
            now = asyncio.get_running_loop().time()
            raise Full(seconds_until_free([now - place.since for place in self._taken.values()]))

    @asynccontextmanager
    async def take(self, session_id: str) -> AsyncIterator[Place]:
        """Hold a conversation while the context lasts; a former holder is replaced, and first stores what was said.

        Raises:
            Full: Every place is taken.
        """
        self.check(session_id)
        former = self._taken.get(session_id)
        place = self._taken[session_id] = Place()
        if former is not None:
            place.since = former.since
        try:
            if former is not None:
                former.replaced.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(former.left.wait(), HANDOVER)
            yield place
        finally:
            place.left.set()
            if self._taken[session_id] is place:
                del self._taken[session_id]
