"""Who may come in: a conversation is refused at once, with the reason, when no worker has a place for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Literal

from engines.tally import tally
from library import DatabaseError, HolderRow, LeaseHolder, LeaseRow, Leases
from services.http import ApiError

WORKER_PATIENCE = 3.0
"""Seconds a caller is kept waiting for a worker that is just being started."""

LOOK_EVERY = 0.25

ON_THE_WAY = 3.0
"""Seconds that a place counts as taken by someone who was given a token and hasn't arrived yet."""

RETRY_FULL, RETRY_AWAY = 5, 3
"""Seconds after which a refused caller is told to try again."""

Verdict = Literal["welcome", "full", "no worker"]


def free_places(holders: Collection[HolderRow]) -> float | None:
    """How many more conversations the agent workers hold; None where no worker is alive.

    A worker and the jobs it runs each announce what they hold and their limit; a limit of None is no limit.
    """
    agents = [holder for holder in holders if holder.kind == "agent"]
    if not agents:
        return None
    return sum(float("inf") if one.limit is None else max(0, one.limit - one.held) for one in agents)


def verdict(
    room: str, holders: Collection[HolderRow], live: Sequence[LeaseRow], on_the_way: Collection[str]
) -> Verdict:
    """Whether someone may come into a room.

    Args:
        room: Where they want to go.
        holders: The processes alive.
        live: The leases that hold.
        on_the_way: Rooms for which others were let in a moment ago.
    """
    held = {lease.place for lease in live if lease.kind == "agent"}
    if room in held:
        return "welcome"  # its agent is there, or is being replaced
    free = free_places(holders)
    if free is None:
        return "no worker"
    return "welcome" if free > len({*on_the_way} - held - {room}) else "full"


def _full() -> ApiError:
    message = f"Every place is taken; try again in {RETRY_FULL} seconds."
    return ApiError(503, "full", message, {"Retry-After": str(RETRY_FULL)})


def _no_worker() -> ApiError:
    message = "The agent worker isn't running: start it with 'python agent/main.py start'."
    return ApiError(503, "unavailable", message, {"Retry-After": str(RETRY_AWAY)})


class Admission:
    """Lets callers in while there is a place.

    Args:
        leases: Who holds what.
        announced: This process, which renews as the workers do.
        clock: Seconds of a clock that nobody sets.
    """

    def __init__(self, leases: Leases, announced: LeaseHolder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._leases = leases
        self._announced = announced
        self._clock = clock
        self._let_in: dict[str, float] = {}

    async def admit(self, room: str) -> None:
        """Return if someone may come into this room.

        Raises:
            ApiError: Every place is taken, or no worker is running; says when to try again.
            DatabaseError: The database failed.
        """
        end = self._clock() + WORKER_PATIENCE
        while True:
            if self._announced.trouble:  # no worker can say that it is there, and none could begin a conversation
                raise DatabaseError(self._announced.trouble)
            holders, live = await asyncio.gather(self._leases.holders(), self._leases.live())
            now = self._clock()
            self._let_in = {name: at for name, at in self._let_in.items() if now - at < ON_THE_WAY}
            match verdict(room, holders, live, self._let_in):
                case "welcome":
                    self._let_in[room] = now
                    return
                case "full":
                    tally("calls_refused", transport="room", reason="full")
                    raise _full()
                case "no worker" if now >= end:
                    tally("calls_refused", transport="room", reason="no_worker")
                    raise _no_worker()
            await asyncio.sleep(LOOK_EVERY)
