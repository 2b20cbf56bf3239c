"""A stack with one place on each transport: who holds it goes on undisturbed, everybody else is told so at once."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest
from livekit import api, rtc

from tests.e2e.faults import query
from tests.e2e.legacy_client import LegacyClient
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import Stack
from tests.e2e.waiting import PATIENCE
from tests.speech import spoken
from tests.spoken import pcm

KEY, SECRET = "key", "a secret of more than thirty-two characters"
KNOCKS = 10


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("small")
    environment = {"MAX_CONVERSATIONS": "1", "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}
    with Stack(folder, folder / "stack.log", environment=environment).running() as running:
        yield running


def name() -> str:
    """A conversation nobody has had."""
    return f"admission-{uuid.uuid4().hex}"


async def ask(page: str, room: str) -> httpx.Response:
    """Ask for a token."""
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        return await http.post(f"{page}/api/token", json={"room_name": room})


async def test_refused_sockets_leave_the_one_that_is_held_alone(small: Stack) -> None:
    session = name()
    async with LegacyClient(small.compat, session, agent="storyteller", query="events=1") as held:
        await held.message("ready")
        speaking = asyncio.create_task(held.say(pcm(spoken("what do you think about music", "awb"))))
        for _ in range(KNOCKS):
            async with LegacyClient(small.compat, name()) as refused:
                told = await refused.message("error")
                assert await refused.closed() == 1013
            assert told["code"] == "full"
            assert re.search(r"try again in \d+ s", told["message"])
        await speaking
        assert (await held.reply(0)).seconds > 0.5
        async with LegacyClient(small.compat, session, query="events=1") as again:
            assert await held.closed() == 1008, "the same conversation needs no second place"
            await again.message("ready")


async def test_refused_visitors_leave_the_room_that_is_held_alone(small: Stack) -> None:
    room = name()
    promised: list[int] = []
    watching = asyncio.create_task(asyncio.to_thread(watch, small, room, promised))
    async with RoomClient(small.page, room, personality="storyteller") as held:
        await held.agent()
        await held.state("listening")
        since = len(held.pieces)
        speaking = asyncio.create_task(held.say(spoken("what do you think about music", "awb")))
        for _ in range(KNOCKS):
            answer = await ask(small.page, name())
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "full"
            assert 1 <= int(answer.headers["Retry-After"]) <= 30
        assert (await ask(small.page, room)).status_code == 201, "who has an agent already may load the page again"
        await speaking
        await held.sound(0.5, since)
        await someone_without_a_place(small)
    await watching  # which ends with the job
    assert len(promised) > 100 and not any(promised), "a place is taken until its job has ended"
    await free_again(small)


def watch(small: Stack, room: str, promised: list[int]) -> None:
    """Note again and again how many places are offered, from when the room's conversation is held until it isn't."""
    held, deadline = False, time.monotonic() + 2 * PATIENCE
    while time.monotonic() < deadline:
        # one state of the database: what the worker and the room's job say, and whether the conversation is held
        ((offered, leases),) = query(
            small,
            "select (select max(\"limit\" - held) from holders where kind = 'agent'),"
            " (select count(*) from leases where place = ?)",
            room,
        )
        if held and not leases:
            return
        held = held or bool(leases)
        if held:
            promised.append(int(str(offered)))
        time.sleep(0.02)


async def someone_without_a_place(small: Stack) -> None:
    """Somebody whose token is older than the refusals is told in the room that every place is taken."""
    room = rtc.Room()
    told: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    def on_data(packet: rtc.DataPacket) -> None:
        if packet.topic == "voice.error" and not told.done():
            told.set_result(json.loads(packet.data))

    room.on("data_received", on_data)
    grants = api.VideoGrants(room_join=True, room=name())
    token = api.AccessToken(KEY, SECRET).with_identity("early").with_grants(grants).to_jwt()
    await room.connect(f"ws://127.0.0.1:{small.ports['LIVEKIT_PORT']}", token)
    try:
        error = await asyncio.wait_for(told, PATIENCE)
        assert error["code"] == "full"
        assert not room.remote_participants, "no agent came"
    finally:
        await room.disconnect()
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"{small.page}/metrics")).text
    counted = re.search(r'voice_node_watchdog_total\{what="room_without_agent"\} (\S+)', metrics)
    assert counted and float(counted[1]) >= 1


async def free_again(small: Stack) -> None:
    """The place is given to the next one some time after the last visitor left."""
    async with asyncio.timeout(60):
        while (await ask(small.page, name())).status_code != 201:  # noqa: ASYNC110 - a page asks again like this
            await asyncio.sleep(1)
