"""The watch against a real livekit-server: dead agents are replaced, missing ones fetched, once each."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from livekit import api, rtc

from library import DatabaseError, LeaseRow, Leases
from library.models import LeaseTable
from tests.integration.token_server.scripted_worker import scripted_worker
from tests.integration.token_server.stage import Served, serving, until, worker_alive
from tests.livekit_server import LiveKitServer, free_port, running_livekit_server
from token_server.dispatch_watch import LOOK_EVERY

QUIET = 6 * LOOK_EVERY
"""Seconds in which the watch would have acted, were there anything to do."""


async def write_lease(served: Served, room: str, *, agent: str = "agent-old", expires_in: float = -0.1) -> None:
    """A lease of an agent that isn't ours, expired unless told otherwise."""
    now = time.time()
    async with served.library.database.transaction() as session:
        session.add(
            LeaseTable(
                session_id=room,
                token="t1",
                holder="agent-elsewhere",
                kind="agent",
                place=room,
                meta={"room": room, "agent_identity": agent, "dispatch_metadata": "kept"},
                claimed_at=now - 10,
                expires_at=now + expires_in,
            )
        )


async def join_as_agent(served: Served, server: LiveKitServer, room: str, identity: str) -> rtc.Room:
    token = (
        api.AccessToken(server.key, server.secret)
        .with_identity(identity)
        .with_kind("agent")
        .with_grants(api.VideoGrants(room_join=True, room=room, agent=True))
    )
    return await served.enter(server.url, token.to_jwt())


async def dispatches(admin: api.LiveKitAPI, room: str) -> list[api.AgentDispatch]:
    return await admin.agent_dispatch.list_dispatch(room)


@contextlib.asynccontextmanager
async def announced(served: Served) -> AsyncIterator[None]:
    """A worker with places is alive, so that tokens are given and the watch may dispatch."""
    async with worker_alive(served):
        yield


async def test_a_dead_agent_is_removed_and_a_new_one_dispatched_once(
    served: Served, livekit: LiveKitServer, admin: api.LiveKitAPI
) -> None:
    room = "dead-agent"
    async with scripted_worker(livekit, joins=False) as worker, announced(served):
        await write_lease(served, room, expires_in=60)  # served, while people arrive
        person = await served.join(room_name=room, participant_identity="anna")
        await until(lambda: len(worker.jobs) == 1)
        worker.joins = True
        old = await join_as_agent(served, livekit, room, "agent-old")
        await until(lambda: "agent-old" in person.remote_participants)
        lease = await served.library.leases.get(room)
        assert lease is not None
        await served.library.leases.drop(lease)
        await write_lease(served, room)

        await until(lambda: len(worker.jobs) == 2)
        assert worker.jobs[1].room.name == room
        assert worker.jobs[1].metadata == "kept"
        await until(lambda: not old.isconnected())
        await until(lambda: "agent-old" not in person.remote_participants)
        (only,) = await dispatches(admin, room)
        assert (only.agent_name, only.metadata) == ("", "kept")
        fenced = await served.library.leases.get(room)
        assert fenced is not None and fenced.token != "t1"  # the old holder can't renew it any more
        await until(lambda: bool(person.remote_participants))
        await asyncio.sleep(QUIET)  # the new one is there and may yet claim the conversation
        assert len(worker.jobs) == 2


async def test_a_dead_agent_is_removed_though_no_worker_can_send_another_until_one_comes(
    served: Served, livekit: LiveKitServer, admin: api.LiveKitAPI
) -> None:
    room = "dead-worker"
    async with announced(served):
        url, token = await served.token(room_name=room)
    await write_lease(served, room, expires_in=60)
    person = await served.enter(url, token)
    old = await join_as_agent(served, livekit, room, "agent-old")
    await until(lambda: "agent-old" in person.remote_participants)
    lease = await served.library.leases.get(room)
    assert lease is not None
    await served.library.leases.drop(lease)
    await write_lease(served, room)
    await until(lambda: not old.isconnected())
    await until(lambda: "agent-old" not in person.remote_participants)
    async with scripted_worker(livekit) as worker, announced(served):
        await until(lambda: bool(person.remote_participants))
        assert [job.metadata for job in worker.jobs] == ["kept"]


async def test_a_room_created_before_any_worker_gets_its_agent_when_one_comes(
    served: Served, livekit: LiveKitServer, admin: api.LiveKitAPI
) -> None:
    room = "no-worker-yet"
    async with announced(served):
        url, token = await served.token(
            room_name=room, room_config={"agents": [{"agent_name": "", "metadata": "juno"}]}
        )
    person = await served.enter(url, token)
    await asyncio.sleep(QUIET)
    (first,) = await dispatches(admin, room)  # nobody to send: the watch waits

    async with scripted_worker(livekit) as worker, announced(served):
        await until(lambda: bool(person.remote_participants))
        (job,) = worker.jobs
        assert (job.room.name, job.metadata) == (room, "juno")
        (only,) = await dispatches(admin, room)
        assert only.id != first.id
        await asyncio.sleep(QUIET)  # its agent is there and may yet claim the conversation
        assert len(worker.jobs) == 1


async def test_a_room_with_a_live_lease_is_left_alone(
    served: Served, livekit: LiveKitServer, admin: api.LiveKitAPI
) -> None:
    room = "well-served"
    async with announced(served):
        await write_lease(served, room, expires_in=60)
        await served.join(room_name=room)
        before = await dispatches(admin, room)
        await asyncio.sleep(QUIET)
        assert await dispatches(admin, room) == before


async def test_an_empty_room_is_left_alone(served: Served, livekit: LiveKitServer, admin: api.LiveKitAPI) -> None:
    room = "empty"
    async with announced(served):
        await admin.room.create_room(api.CreateRoomRequest(name=room))
        await write_lease(served, room)
        before = await dispatches(admin, room)
        await asyncio.sleep(QUIET)
        assert await dispatches(admin, room) == before


async def test_a_holder_that_renewed_after_all_keeps_its_room(served: Served, livekit: LiveKitServer) -> None:
    """Fencing decides between a holder that wakes up and the watch; the holder's renewal wins if it is first."""
    await write_lease(served, "woken")
    row = await served.library.leases.get("woken")
    assert row is not None
    async with served.library.database.transaction() as session:
        lease = await session.get(LeaseTable, "woken")
        assert lease is not None
        lease.expires_at = time.time() + 60
    assert await served.library.leases.fence(row) is None


async def test_the_watch_outlives_a_livekit_server_that_is_away(
    environment: pytest.MonkeyPatch, page: Path, livekit: LiveKitServer
) -> None:
    port = free_port()
    environment.setenv("LIVEKIT_PORT", str(port))
    async with serving(page) as served, announced(served):

        async def watch_is_blind() -> bool:
            return "watch" in (await served.http.get("/health")).json()

        await until(watch_is_blind)
        with running_livekit_server(port=port, key=livekit.key, secret=livekit.secret) as server:
            person = await served.join(room_name="late")
            async with scripted_worker(server) as worker:
                await until(lambda: bool(person.remote_participants))
                assert [job.room.name for job in worker.jobs] == ["late"]
            await person.disconnect()


async def test_the_watch_outlives_a_database_that_is_away(
    served: Served, livekit: LiveKitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Leases, now: float | None = None) -> list[LeaseRow]:
        raise DatabaseError("the database is away")

    with monkeypatch.context() as while_away:
        while_away.setattr(Leases, "live", broken)

        async def watch_is_blind() -> bool:
            return "watch" in (await served.http.get("/health")).json()

        await until(watch_is_blind)
        refused = await served.http.post("/api/token", json={})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "unavailable"
        assert "database doesn't answer" in refused.json()["error"]["message"]
        assert int(refused.headers["Retry-After"]) > 0
    room = "database-was-away"
    async with announced(served):
        url, token = await served.token(room_name=room)
    person = await served.enter(url, token)
    async with scripted_worker(livekit) as worker, announced(served):
        await until(lambda: bool(person.remote_participants))
        assert [job.room.name for job in worker.jobs] == [room]


async def test_a_locked_database_is_told_at_once_and_costs_nobody_their_agent(
    served: Served, livekit: LiveKitServer, admin: api.LiveKitAPI
) -> None:
    """While it is locked every lease expires, since nobody can renew; their holders are as alive as before."""
    room = "locked"
    async with scripted_worker(livekit, joins=False) as worker, worker_alive(served) as holder:
        lease = await holder.claim(room, room, {"agent_identity": "agent-old"})
        await served.join(room_name=room, participant_identity="anna")
        await until(lambda: len(worker.jobs) == 1)
        await join_as_agent(served, livekit, room, "agent-old")
        file = Path(str(served.library.database.url.database))
        other = sqlite3.connect(file, isolation_level=None, timeout=5)
        try:
            other.execute("BEGIN IMMEDIATE")

            async def refused() -> bool:
                answer = await served.http.post("/api/token", json={"room_name": "new"})
                return answer.status_code == 503 and "database" in answer.json()["error"]["message"]

            await until(refused)
            health = await served.http.get("/health")
            assert (health.status_code, "is locked" in health.json()["reason"]) == (503, True)
            begun = time.monotonic()
            assert await refused()
            assert time.monotonic() - begun < 10, "who waits is told at once"
            await asyncio.sleep(QUIET)
        finally:
            other.close()
        await until(lambda: not holder.trouble)
        await asyncio.sleep(QUIET)
        assert lease.held
        assert len(worker.jobs) == 1
        assert (await served.http.get("/health")).status_code == 200
        url, token = await served.token(room_name="new")
        assert url and token


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_clock_that_is_set_costs_nobody_their_agent(
    served: Served, livekit: LiveKitServer, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    room = f"clock{jump:+.0f}"
    async with scripted_worker(livekit, joins=False) as worker, worker_alive(served) as holder:
        lease = await holder.claim(room, room, {"agent_identity": "agent-old"})
        await served.join(room_name=room, participant_identity="anna")
        await until(lambda: len(worker.jobs) == 1)
        await join_as_agent(served, livekit, room, "agent-old")
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        await asyncio.sleep(QUIET)
        assert lease.held
        assert len(worker.jobs) == 1
        assert [row.session_id for row in await served.library.leases.live()] == [room]
