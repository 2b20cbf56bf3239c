"""Who may come in: a conversation is refused at once, with the reason, when no worker has a place for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Literal

from engines.tally import tally
from engines.types import Kind
from library import DatabaseError, HolderRow, LeaseHolder, LeaseRow, Leases, capacity
from services.http import ApiError

WORKER_PATIENCE = 3.0
"""Seconds a caller is kept waiting for a worker that is just being started."""

LOOK_EVERY = 0.25

ON_THE_WAY = 3.0
"""Seconds that a place counts as taken by someone who was given a token and hasn't arrived yet."""

RETRY_AWAY = 3
"""Seconds after which a caller is told to try again where no worker runs."""

Verdict = Literal["welcome", "full", "service full", "no worker"]


def free_places(holders: Collection[HolderRow]) -> float | None:
    """How many more conversations the agent workers hold; None where no worker is alive."""
    return capacity.free_places(holders, "agent")


def verdict(
    room: str,
    holders: Collection[HolderRow],
    live: Sequence[LeaseRow],
    on_the_way: Collection[str],
    services: Collection[Kind] = (),
) -> Verdict:
    """Whether someone may come into a room.

    Args:
        room: Where they want to go.
        holders: The processes alive.
        live: The leases that hold.
        on_the_way: Rooms that have a place kept for them: somebody was let in a moment ago.
        services: Those without which there is no conversation.
    """
    held = {lease.place for lease in live if lease.kind == "agent"}
    if room in held:
        return "welcome"  # its agent is there, or is being replaced
    free = free_places(holders)
    if free is None:
        return "no worker"
    if room not in on_the_way and free <= len({*on_the_way} - held):
        return "full"
    return "service full" if capacity.full_service(holders, services) else "welcome"


def full(seconds: int) -> ApiError:
    """The refusal for want of room."""
    message = f"Every place is taken; try again in {seconds} seconds."
    return ApiError(503, "full", message, {"Retry-After": str(seconds)})


def seconds_until_free(live: Sequence[LeaseRow], now: float) -> int:
    """When an agent's place is likely to be free, at `now` by the clock of the leases."""
    return capacity.seconds_until_free([now - lease.claimed_at for lease in live if lease.kind == "agent"])


def _no_worker() -> ApiError:
    message = "The agent worker isn't running: start it with 'python agent/main.py start'."
    return ApiError(503, "unavailable", message, {"Retry-After": str(RETRY_AWAY)})


class Admission:
    """Lets callers in while there is a place.

    Args:
        leases: Who holds what.
        announced: This process, which renews as the workers do.
        services: Those without which there is no conversation.
        clock: Seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        leases: Leases,
        announced: LeaseHolder,
        services: Collection[Kind] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services = services
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
            match verdict(room, holders, live, self._let_in, self._services):
                case "welcome":
                    self._let_in[room] = now
                    return
                case "full":
                    tally("calls_refused", transport="room", reason="full")
                    raise full(seconds_until_free(live, await self._leases.now()))
                case "service full":
                    tally("calls_refused", transport="room", reason="full")
                    raise full(capacity.CALL)
                case "no worker" if now >= end:
                    tally("calls_refused", transport="room", reason="no_worker")
                    raise _no_worker()
            await asyncio.sleep(LOOK_EVERY)
