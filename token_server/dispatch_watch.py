"""The dispatch watch: looks twice a second whether every person in a room has an agent, and fetches one where not.

What to do is decided in dispatch_policy; here rooms, participants and leases are read, and agents are removed and
dispatched. livekit-server or the database being away is noted once and tried again. Whether holders can renew is known
from this process, which renews beside them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable

import aiohttp
from livekit import api
from livekit.protocol import models

from engines.watchdog import bite
from library import LeaseHolder, LeaseRow, Leases, LibraryError
from library.leases import RENEWAL
from token_server.addresses import http_form
from token_server.admission import free_places, seconds_until_free
from token_server.dispatch_policy import (
    Dismissal,
    Memory,
    Person,
    Redispatch,
    RoomSeen,
    Seen,
    newly_noticed,
    plan,
    unserved,
)
from token_server.names import SESSION_ATTRIBUTE

logger = logging.getLogger("voice_node.token_server")

LOOK_EVERY = 0.5
"""Seconds between looks."""

DEADLINE = aiohttp.ClientTimeout(total=3.0)
"""For each call of livekit-server."""

SILENT_FOR = 2 * RENEWAL
"""Seconds without a renewal of our own after which others may not have got through either."""

CLOCK_STEP = 0.7
"""Seconds by which the clock is set before leases that are renewed in time show as expired."""

TIDY_EVERY = 30.0
"""Seconds between deletions of what dead processes left; in the first of them no clock was set."""

AT_ONCE = 8
"""Rooms that are looked at in parallel."""

TOPIC_ERROR = "voice.error"
"""Topic of errors in a room; from us they come as data, since a server can send no text stream."""

_KINDS = models.ParticipantInfo.Kind
PEOPLE = (_KINDS.STANDARD, _KINDS.SIP, _KINDS.CONNECTOR)

AWAY = (aiohttp.ClientError, TimeoutError, api.ServerError, OSError)
"""What a call raises when livekit-server is away or refuses it."""


class DispatchWatch:
    """Watches until it is closed.

    Args:
        leases: Who holds what.
        announced: This process, which renews as all others do.
        url: livekit-server's address (ws or http).
        keys: Its key and secret.
        clock: Seconds of a clock that nobody sets.
        dispatched: Called for each dispatch made, with the reason.
    """

    def __init__(
        self,
        leases: Leases,
        announced: LeaseHolder,
        url: str,
        keys: tuple[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
        dispatched: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._leases = leases
        self._announced = announced
        self._livekit = api.LiveKitAPI(http_form(url), *keys, timeout=DEADLINE)
        self._clock = clock
        self._dispatched = dispatched
        self._memory = Memory()
        self._ahead: float | None = None
        """How far the shared clock was ahead of ours, which nobody sets, at the last look."""
        self._tidied = clock()
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._trouble = ""
        self._loop = asyncio.create_task(self._watch(), name="dispatch watch")

    @property
    def trouble(self) -> str:
        """Why the watch can't see at the moment; empty where it can."""
        return self._trouble

    async def aclose(self) -> None:
        """Stop; what is under way is cancelled."""
        tasks = [self._loop, *self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._livekit.aclose()

    async def _watch(self) -> None:
        while True:
            begun = self._clock()
            try:
                await self._look()
            except (*AWAY, LibraryError) as error:
                self._note(f"{type(error).__name__}: {error}")
            except Exception:
                # The watch must outlive whatever happens; what it doesn't expect is told in full.
                logger.exception("the dispatch watch failed, it goes on")
            else:
                self._note("")
            await asyncio.sleep(max(0.05, LOOK_EVERY - (self._clock() - begun)))

    def _note(self, trouble: str) -> None:
        if trouble and not self._trouble:
            logger.warning("the dispatch watch can't see the rooms: %s", trouble)
        elif self._trouble and not trouble:
            logger.info("the dispatch watch sees the rooms again")
        self._trouble = trouble

    async def _look(self) -> None:
        listed = await self._livekit.room.list_rooms(api.ListRoomsRequest())
        live = await self._leases.live()
        names = unserved([room.name for room in listed.rooms], live)
        seen = Seen(
            rooms=tuple([room for room in await asyncio.gather(*map(self._room, names)) if room]),
            live=tuple(live),
            expired=tuple(await self._leases.expired()),
            free=free_places(await self._leases.holders()),
            # After the leases were read: what came between them would be noticed.
            doubtful=self._clock_set(await self._leases.now()) or self._announced.silent_for > SILENT_FOR,
            writable=not self._announced.trouble,
            now=self._clock(),
        )
        before = self._memory
        actions, self._memory = plan(seen, before)
        noticed, told = newly_noticed(before, self._memory)
        for name in noticed:
            bite("room_without_agent", "a person is in a room without an agent", room=name, free_places=seen.free)
        for name in told:
            await self._tell_full(name, seconds_until_free(live, await self._leases.now()))
        for action in actions:
            if action.room not in self._under_way:
                work = self._redispatch(action) if isinstance(action, Redispatch) else self._dismiss(action)
                self._under_way[action.room] = asyncio.create_task(work, name="redispatch")

        await self._tidy(seen)

    def _clock_set(self, shared: float) -> bool:
        before, self._ahead = self._ahead, shared - self._clock()
        changed = before is not None and abs(self._ahead - before) > CLOCK_STEP
        if changed:
            logger.warning("the clock was set; leases are given time to be renewed by it")
            self._tidied = self._clock()
        return changed

    async def _tidy(self, seen: Seen) -> None:
        if seen.writable and seen.now - self._tidied >= TIDY_EVERY:
            self._tidied = seen.now
            await self._leases.tidy()

    async def _room(self, name: str) -> RoomSeen | None:
        async with self._gate:
            try:
                listed = await self._livekit.room.list_participants(api.ListParticipantsRequest(room=name))
            except AWAY as error:  # closed since it was listed, or its server doesn't answer: the next look tells
                logger.debug("a room can't be seen: %s", error, extra={"room": name})
                return None
        present = [one for one in listed.participants if one.state != models.ParticipantInfo.State.DISCONNECTED]
        return RoomSeen(
            name,
            people=tuple(
                Person(one.identity, one.attributes.get(SESSION_ATTRIBUTE) or name)
                for one in present
                if one.kind in PEOPLE
            ),
            agents=tuple(one.identity for one in present if one.kind == _KINDS.AGENT),
        )

    async def _redispatch(self, action: Redispatch) -> None:
        room = action.room
        try:
            if action.lease is not None and await self._leases.fence(action.lease, action.pause) is None:
                return  # renewed after all, or another token server was first
            dispatches = await self._livekit.agent_dispatch.list_dispatch(room)
            mine = [one for one in dispatches if not one.agent_name]
            metadata = _metadata(action.lease, mine)
            # An agent that is still on its way through an old dispatch is called off: one at a time.
            await asyncio.gather(
                *(self._remove(room, identity) for identity in action.stale),
                *(self._call_off(room, one.id) for one in mine),
            )
            await self._livekit.agent_dispatch.create_dispatch(
                api.CreateAgentDispatchRequest(room=room, agent_name="", metadata=metadata)
            )
        except (*AWAY, LibraryError) as error:
            logger.warning("no agent could be sent: %s", error, extra={"room": room})
        else:
            logger.warning("a new agent is sent, %s", action.reason, extra={"room": room})
            self._dispatched(action.reason)
        finally:
            del self._under_way[room]

    async def _dismiss(self, action: Dismissal) -> None:
        room = action.room
        try:
            if await self._leases.fence(action.lease, 0.0) is None:
                return
            await self._remove(room, action.agent)
        except (*AWAY, LibraryError) as error:
            logger.warning("a dead agent could not be removed: %s", error, extra={"room": room})
        else:
            logger.warning("a dead agent is removed, and no worker has a place for another", extra={"room": room})
        finally:
            del self._under_way[room]

    async def _tell_full(self, room: str, seconds: int) -> None:
        """Tell the people in a room why nobody answers; they are served as soon as a place is free."""
        message = f"Every place is taken; you are answered as soon as one is free, perhaps in {seconds} seconds."
        body = json.dumps({"code": "full", "message": message, "retry_after": seconds})
        try:
            await self._livekit.room.send_data(
                api.SendDataRequest(
                    room=room, data=body.encode(), kind=models.DataPacket.Kind.RELIABLE, topic=TOPIC_ERROR
                )
            )
        except AWAY as error:
            logger.warning("people could not be told that every place is taken: %s", error, extra={"room": room})

    async def _remove(self, room: str, identity: str) -> None:
        try:
            await self._livekit.room.remove_participant(api.RoomParticipantIdentity(room=room, identity=identity))
        except api.ServerError as error:
            if error.code != "not_found":
                raise

    async def _call_off(self, room: str, dispatch_id: str) -> None:
        try:
            await self._livekit.agent_dispatch.delete_dispatch(dispatch_id, room)
        except api.ServerError as error:
            if error.code != "not_found":
                raise


def _metadata(lease: LeaseRow | None, dispatches: list[api.AgentDispatch]) -> str:
    """What the old agent was dispatched with: its lease knows, else the newest dispatch of the room."""
    if lease is not None and isinstance(kept := lease.metadata.get("dispatch_metadata"), str):
        return kept
    newest = max(dispatches, key=lambda one: one.state.created_at, default=None)
    return newest.metadata if newest else ""
