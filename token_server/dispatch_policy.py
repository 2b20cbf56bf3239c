"""When a room needs a new agent: decided from what was seen, without I/O or a clock of its own.

livekit-server sends an agent into a room when the room is created, and never again; a dead agent stays listed for 21
seconds. So neither the dispatch nor the participant list tells whether somebody is served: the conversation's
lease does. A room with people needs a new agent when the lease of its conversation expired, or when there
has been no lease for longer than an agent takes to come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from library import LeaseRow
from library.leases import FENCED

COMES_WITHIN = 2.0
"""Seconds in which an agent is in a room after the first person, where all is well."""

NOTICED_AFTER = 1.5
"""Seconds after which a room with a person and no agent is noted as a fault, repaired or not; with the time between
two looks that is two seconds at most."""

TOLD_AFTER = 3.0
"""Seconds after which the people in such a room are told that every place is taken, where that is so."""

CLAIMS_WITHIN = 10.0
"""Seconds in which an agent that is in the room has claimed the conversation."""

PAUSES = (4.0, 8.0, 15.0)
"""Seconds after each dispatch before another is tried for the same room; the last one repeats."""

BLINK = 1.5
"""Seconds without a look after which what is seen may be our own absence: a frozen process, a sleeping machine."""

RECOVERY = 1.0
"""Seconds that holders are given to renew after such an absence, or where there is such doubt."""

REACHED_AGAIN = 2.0
"""Seconds that they are given after the database could not be written: some may wait for its answer yet."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a room who wants to be heard."""

    identity: str
    session_id: str


@dataclass(frozen=True, slots=True)
class RoomSeen:
    """A room that no live lease speaks for."""

    name: str
    people: tuple[Person, ...] = ()
    agents: tuple[str, ...] = ()
    """Identities of the agents listed, dead ones among them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found.

    Attributes:
        now: Seconds of a steady clock.
        rooms: The rooms that are `unserved`.
        live: Leases that hold.
        expired: Leases whose holders stopped renewing.
        free: Places that agent workers have left; None where no worker is alive.
        writable: Whether holders can renew at all.
        doubtful: Whether leases may show as expired though their holders are well: the clock was set since the last
            look, or our own renewal is late as well.
    """

    now: float
    rooms: tuple[RoomSeen, ...]
    live: tuple[LeaseRow, ...]
    expired: tuple[LeaseRow, ...]
    free: float | None
    writable: bool = True
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Redispatch:
    """A room needs a new agent: fence the lease, remove the stale agents, dispatch.

    Attributes:
        room: Its name.
        reason: For the log.
        stale: Agents to remove first.
        lease: The expired lease; None where there never was one.
        pause: Seconds that the new agent is given.
    """

    room: str
    reason: str
    stale: tuple[str, ...]
    lease: LeaseRow | None
    pause: float


@dataclass(frozen=True, slots=True)
class Dismissal:
    """A dead agent is to leave its room although no worker can send another: people see that nobody hears them.

    Attributes:
        room: Its name.
        agent: The dead agent.
        lease: Its expired lease, to be fenced first.
    """

    room: str
    agent: str
    lease: LeaseRow


@dataclass(frozen=True, slots=True)
class RoomMemory:
    """What is remembered of an unserved room from look to look.

    Attributes:
        since: When it was first seen with people and without a lease.
        agents: When each of its agents was first seen.
        tries: Dispatches made.
        not_before: When the next one may be made.
        without: Since when people were seen in it and no agent, nor one on its way; None where there is one.
        noticed: Whether that was noted.
        told: Whether the people were told that every place is taken.
    """

    since: float
    agents: Mapping[str, float] = field(default_factory=dict)
    tries: int = 0
    not_before: float = 0.0
    without: float | None = None
    noticed: bool = False
    told: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered from look to look."""

    rooms: Mapping[str, RoomMemory] = field(default_factory=dict)
    looked: float | None = None
    wary_until: float = 0.0


def unserved(rooms: Iterable[str], live: Collection[LeaseRow]) -> list[str]:
    """The rooms that nobody holds by a live lease; only those need a closer look."""
    served = {lease.place for lease in live if lease.kind == "agent" and lease.holder != FENCED}
    return [room for room in rooms if room not in served]


def plan(seen: Seen, memory: Memory) -> tuple[list[Redispatch | Dismissal], Memory]:
    """What to do now, and what to remember; the caller does it, or drops the memory of what it couldn't do."""
    wary_until = memory.wary_until
    if seen.doubtful or (memory.looked is not None and seen.now - memory.looked > BLINK):
        wary_until = max(wary_until, seen.now + RECOVERY)
    if not seen.writable:
        wary_until = max(wary_until, seen.now + REACHED_AGAIN)
    remembered: dict[str, RoomMemory] = {}
    actions: list[Redispatch | Dismissal] = []
    for room in seen.rooms:
        if not room.people:
            continue
        known = _noted(room, memory.rooms.get(room.name), seen.now)
        if seen.now >= wary_until:
            known = _alone(room, known, seen)
        remembered[room.name] = known
        if seen.now < wary_until:
            continue
        action = _needed(room, known, seen)
        if action is not None:
            actions.append(action)
        if isinstance(action, Redispatch):
            remembered[room.name] = replace(known, tries=known.tries + 1, not_before=seen.now + action.pause)
    return actions, Memory(remembered, seen.now, wary_until)


def _noted(room: RoomSeen, known: RoomMemory | None, now: float) -> RoomMemory:
    if known is None:
        known = RoomMemory(since=now)
    agents = {identity: known.agents.get(identity, now) for identity in room.agents}
    return replace(known, agents=agents)


def _alone(room: RoomSeen, known: RoomMemory, seen: Seen) -> RoomMemory:
    """Note whether the people in a room are without an agent, and for how long."""
    if _held(room, seen) or _coming(room, known, seen):
        return replace(known, without=None, noticed=False, told=False)
    without = known.without
    if without is None:
        # A lease that has expired tells by itself that its agent has been gone for a while.
        without = known.since if _expired(room, seen) is None else seen.now - NOTICED_AFTER
    alone = seen.now - without
    return replace(
        known,
        without=without,
        noticed=known.noticed or alone >= NOTICED_AFTER,
        told=known.told or (alone >= TOLD_AFTER and seen.free == 0),
    )


def newly_noticed(before: Memory, after: Memory) -> tuple[list[str], list[str]]:
    """The rooms that were noted to be without an agent in between, and those whose people are to be told of it."""

    def turned(flag: str) -> list[str]:
        blank = RoomMemory(since=0.0)
        return [
            name
            for name, room in after.rooms.items()
            if getattr(room, flag) and not getattr(before.rooms.get(name, blank), flag)
        ]

    return turned("noticed"), turned("told")


def _held(room: RoomSeen, seen: Seen) -> bool:
    """Whether it goes on in another room, on a WebSocket, or a new agent is being fetched."""
    sessions = {person.session_id for person in room.people}
    return any(lease.session_id in sessions for lease in seen.live)


def _expired(room: RoomSeen, seen: Seen) -> LeaseRow | None:
    return next((row for row in seen.expired if row.place == room.name and row.kind == "agent"), None)


def _coming(room: RoomSeen, known: RoomMemory, seen: Seen) -> bool:
    """Whether an agent is in the room that may still claim the conversation."""
    lease = _expired(room, seen)
    dead = lease.metadata.get("agent_identity") if lease else None
    return any(one != dead and seen.now - known.agents[one] < CLAIMS_WITHIN for one in room.agents)


def _needed(room: RoomSeen, known: RoomMemory, seen: Seen) -> Redispatch | Dismissal | None:
    """What this room needs now, if anything."""
    if _held(room, seen) or _coming(room, known, seen) or seen.now < known.not_before:
        return None
    lease = _expired(room, seen)
    if not seen.free:
        dead = lease.metadata.get("agent_identity") if lease else None
        # Fenced, it has been dismissed before, or another token server is at it.
        if lease is None or lease.holder == FENCED or dead not in room.agents:
            return None
        return Dismissal(room.name, str(dead), lease)
    if lease is None and seen.now - known.since < COMES_WITHIN:
        return None
    return Redispatch(
        room=room.name,
        reason="the agent stopped renewing its lease" if lease else "no agent came",
        stale=room.agents,
        lease=lease,
        pause=PAUSES[min(known.tries, len(PAUSES) - 1)],
    )
