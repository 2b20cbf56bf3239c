"""Who holds a conversation: places, leases, replacement, and what is left when a call ends, on a real socket."""

from __future__ import annotations

import asyncio
import json
import re
import sys

import httpx
import pytest
from livekit.agents import CloseEvent, CloseReason
from websockets.asyncio.client import connect

from engines.types import Capacity, EngineNotConfigured
from library import DatabaseError
from library.leases import LeaseHolder
from services.websocket_protocol import WebSocketProtocol
from tests.integration.compat_ws.conftest import House, Open, ending, until

HELLO = json.dumps({"agentId": "", "userId": "u1", "agentName": ""})


async def test_a_second_socket_replaces_the_first(house: House) -> None:
    async with await house.call("s1") as first, await house.call("s1") as second:
        told, code, reason = await ending(first)
        assert (told[-1]["code"], code) == ("replaced", 1008)
        assert reason
        await until(lambda: house.talks[0].closed)
        assert not house.talks[1].closed
        assert house.talks[1].lease.held
        await second.ping()


async def test_another_process_that_takes_the_conversation_ends_the_call(house: House) -> None:
    other = LeaseHolder(house.equipment.library, "agent", None)
    await other.start()
    async with await house.call("s1") as client:
        lease = await other.claim("s1", "room")
        told, code, _ = await ending(client)
        assert (told[-1]["code"], code) == ("replaced", 1008)
        await until(lambda: house.equipment.places.held == 0)
        assert lease.held
    row = await house.equipment.library.leases.get("s1")
    assert row is not None
    assert row.kind == "agent"
    await other.aclose()


async def test_a_call_that_ends_leaves_nothing_behind(house: House) -> None:
    async with await house.call("s1"):
        row = await house.equipment.library.leases.get("s1")
        assert row is not None
        assert row.kind == "compat"
        assert house.equipment.places.held == 1
    await until(lambda: house.equipment.places.held == 0)
    assert house.talks[0].closed
    assert await house.equipment.library.leases.get("s1") is None


async def test_a_line_that_breaks_ends_the_call(house: House) -> None:
    client = await house.call("s1")
    client.transport.abort()
    await until(lambda: house.talks[0].closed and house.equipment.places.held == 0)


async def test_when_every_place_is_taken_the_next_is_told_to_try_later(open_house: Open) -> None:
    house = await open_house(MAX_CONVERSATIONS="1")
    async with await house.call("s1"):
        async with connect(house.address("/ws/s2")) as client:
            await client.send(HELLO)
            told, code, _ = await ending(client)
        assert (told[-1]["code"], code) == ("full", 1013)
        assert re.search(r"try again in \d+ s", told[-1]["message"])
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}", timeout=30) as http:
            refused = 'voice_node_calls_refused_total{reason="full",transport="websocket"} 1.0'
            assert refused in (await http.get("/metrics")).text
        async with await house.call("s1"):
            pass
    await until(lambda: house.equipment.places.held == 0)
    async with await house.call("s2"):
        pass


async def test_ten_who_are_refused_at_once_leave_a_reply_under_way_as_it_is(open_house: Open) -> None:
    house = await open_house(MAX_CONVERSATIONS="2", AUDIO_LEAD="0.4")
    async with await house.call("s1", "?audio=binary") as first, await house.call("s2"):
        lease = house.talks[0].lease
        expected = await house.talks[0].speak(3.0)
        knocks = []
        for n in range(10):
            async with connect(house.address(f"/ws/new-{n}")) as client:
                await client.send(HELLO)
                told, code, _ = await ending(client)
            knocks.append((told[-1]["code"], code))
        heard = b""
        while isinstance(sound := await asyncio.wait_for(first.recv(), 20), bytes):
            heard += sound
        assert knocks == [("full", 1013)] * 10
        assert heard == expected, "no sample is missing or late"
        assert len(house.talks) == 2, "no conversation was begun for them"
        assert house.talks[0].lease is lease and lease.held
        rows = await house.equipment.library.leases.live()
        assert {row.session_id for row in rows} == {"s1", "s2"}
        async with await house.call("s1"):
            assert (await ending(first))[1] == 1008, "a second socket of a live conversation takes its place, also now"
            assert house.equipment.places.held == 2


async def test_where_a_service_is_full_without_which_nobody_can_talk_the_next_is_told_so(open_house: Open) -> None:
    house = await open_house(TTS="service")
    busy = LeaseHolder(house.equipment.library, "tts", None, capacity=lambda: Capacity(4, 4))
    await busy.start()
    async with connect(house.address("/ws/s1")) as client:
        await client.send(HELLO)
        told, code, _ = await ending(client)
    assert (told[-1]["code"], code) == ("full", 1013)
    assert await house.equipment.library.leases.get("s1") is None
    await until(lambda: house.equipment.places.held == 0)
    await busy.aclose()
    async with await house.call("s1"):
        pass


async def test_what_cannot_begin_says_why(house: House) -> None:
    for failure, code in [
        (EngineNotConfigured("set GROQ_API_KEY"), "not_configured"),
        (DatabaseError("the database is gone"), "unavailable"),
    ]:
        house.failure = failure
        async with connect(house.address("/ws/s1")) as client:
            await client.send(HELLO)
            told, close, _ = await ending(client)
        assert (told[-1]["code"], close) == (code, 1013)
        await until(lambda: house.equipment.places.held == 0)


async def test_engines_that_fail_for_good_end_the_call(house: House) -> None:
    async with await house.call("s1") as client:
        house.talks[0].session.emit("close", CloseEvent(reason=CloseReason.USER_INITIATED))
        house.talks[0].session.emit("close", CloseEvent(reason=CloseReason.ERROR))
        told, code, _ = await ending(client)
    assert (told[-1]["code"], code) == ("unavailable", 1013)


async def test_a_stopping_server_closes_its_calls(open_house: Open) -> None:
    house = await open_house()
    async with await house.call("s1") as client:
        house.server.should_exit = True
        _, code, _ = await ending(client)
    assert code == 1012
    await until(lambda: house.talks[0].closed)


async def test_a_client_that_never_reads_again_is_let_go_of(open_house: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compat_ws.outbox.PATIENCE", 0.3)
    end_within = WebSocketProtocol._end_within
    monkeypatch.setattr(WebSocketProtocol, "_end_within", lambda line, _: end_within(line, 0.3))
    house = await open_house(AUDIO_LEAD="5")
    client = await house.call("s1")
    client.transport.pause_reading()  # type: ignore[attr-defined]
    await house.talks[0].speak(60)
    await until(lambda: not house.server.server_state.connections)
    assert house.talks[0].closed
    client.transport.abort()


async def test_health_and_metrics_tell_what_is_held(open_house: Open) -> None:
    house = await open_house(MAX_CONVERSATIONS="7")
    async with await house.call("s1"), httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}") as http:
        health = await http.get("/health")
        assert health.status_code == 200
        assert health.json()["conversations"] == {"held": 1, "limit": 7}
        assert health.json()["engines"]["stt"] == {"name": "scripted", "model": "scripted", "ok": True}
        metrics = (await http.get("/metrics")).text
        assert 'voice_node_conversations_held{transport="websocket"} 1.0' in metrics
        assert 'voice_node_conversations_limit{transport="websocket"} 7.0' in metrics
        assert "voice_node_turn_seconds" in metrics


async def test_its_command_line_explains_itself() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "compat_ws", "--help", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"WebSocket" in out
    assert b"--port" in out
