"""The compat WebSocket on a real socket, a scripted conversation behind it: contract.md, item by item."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from compat_ws import call as call_module
from tests.integration.compat_ws.conftest import House, Open, ending, message, until

HELLO = json.dumps({"agentId": "sage", "userId": "u1", "agentName": "Sage"})


async def hung_up(house: House, first: str | bytes | None, path: str = "/ws/s1") -> tuple[dict[str, Any], int | None]:
    """The error and the close code that a client gets for this first message."""
    async with connect(house.address(path)) as client:
        if first is not None:
            with contextlib.suppress(ConnectionClosed):
                await client.send(first)
        told, code, reason = await ending(client)
    assert len(told) == 1
    assert told[0]["type"] == "error"
    assert reason
    return told[0], code


# --- the first message ------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [b"\x00\x00", "hello", "{}", '{"agentId": 1}', '{"type": "text", "text": "hi"}'])
async def test_a_wrong_first_message_is_told_what_was_expected(house: House, first: str | bytes) -> None:
    error, code = await hung_up(house, first)
    assert code == 1003
    assert error["code"] == "bad_request"
    assert "agentId" in error["message"]
    assert house.talks == []


async def test_no_first_message_is_told_what_was_expected(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_module, "HELLO_WITHIN", 0.1)
    error, code = await hung_up(house, None)
    assert code == 1003
    assert "no first message" in error["message"]
    assert "agentId" in error["message"]


async def test_agent_user_and_name_reach_the_conversation(house: House) -> None:
    async with await house.call("s1", agentId="sage", agentName="Sage", userId="u7"):
        caller = house.talks[0].caller
        assert (caller.session_id, caller.personality, caller.personality_name, caller.user) == (
            "s1",
            "sage",
            "Sage",
            "u7",
        )


@pytest.mark.parametrize("path", ["/ws/s1?audio=mp3", "/ws/s1?events=often", "/ws/%20", "/ws/" + "a" * 300])
async def test_a_wrong_address_is_refused(house: House, path: str) -> None:
    error, code = await hung_up(house, HELLO, path)
    assert (error["code"], code) == ("bad_request", 1003)


async def test_an_unknown_path_is_told_so(house: House) -> None:
    error, code = await hung_up(house, None, "/wrong")
    assert (error["code"], code) == ("not_found", 4404)


async def test_keys_are_asked_for_where_they_are_set(open_house: Open) -> None:
    house = await open_house(API_KEYS="secret")
    error, code = await hung_up(house, HELLO)
    assert (error["code"], code) == ("unauthorized", 1008)
    async with await house.call(query="?api_key=secret"):
        pass


async def test_pages_of_other_origins_are_refused(house: House) -> None:
    async with connect(house.address("/ws/s1"), origin="https://evil.example") as client:  # type: ignore[arg-type]
        told, code, _ = await ending(client)
    assert (told[0]["code"], code) == ("forbidden", 1008)


# --- sound in ---------------------------------------------------------------------------------------------


async def test_sound_of_any_chunking_arrives_whole(house: House) -> None:
    sound = (np.arange(16_000) % 30_000 + 1).astype("<i2").tobytes()
    async with await house.call() as client:
        for at in range(0, len(sound), 333):
            await client.send(sound[at : at + 333])
        talk = house.talks[0]
        await until(lambda: len(talk.heard) >= len(sound))
        heard = np.frombuffer(bytes(talk.heard), np.int16)
        assert heard[heard != 0].tobytes() == sound


async def test_a_client_far_ahead_of_real_time_is_closed_with_the_reason(house: House) -> None:
    async with await house.call() as client:
        for _ in range(31):
            await client.send(bytes(32_000))
        told, code, reason = await ending(client)
    assert (told[-1]["code"], code) == ("too_fast", 1008)
    assert reason is not None
    assert "30 s ahead" in reason


async def test_a_message_over_the_limit_closes_the_socket(house: House) -> None:
    async with await house.call() as client:
        await client.send(bytes(1024 * 1024 + 1))
        told, code, _ = await ending(client)
    assert (told[-1]["code"], code) == ("too_big", 1009)


# --- sound out --------------------------------------------------------------------------------------------


async def a_reply(client: ClientConnection) -> tuple[bytes, list[dict[str, Any]]]:
    """Sound up to the next end of a reply, and every other message."""
    sound, others = b"", []
    while True:
        received = await asyncio.wait_for(client.recv(), 20)
        if isinstance(received, bytes):
            sound += received
            continue
        taken = json.loads(received)
        if taken["type"] == "tts_stream":
            sound += base64.b64decode(taken["data"], validate=True)
        elif taken["type"] == "tts_stream_end":
            return sound, others
        else:
            others.append(taken)


async def test_a_legacy_client_hears_replies_and_is_told_nothing_else(house: House) -> None:
    async with await house.call() as client:
        talk = house.talks[0]
        talk.events.transcript("user", "hello", True)
        talk.events.state("thinking")
        talk.events.turn({"turn": 1, "session": "s1"})
        said = await talk.speak(1.0)
        assert await a_reply(client) == (said, [])
        again = await talk.speak(0.1)
        assert await a_reply(client) == (again, [])


async def test_binary_sound_by_request(house: House) -> None:
    async with await house.call(query="?audio=binary") as client:
        said = await house.talks[0].speak(0.5)
        assert await asyncio.wait_for(client.recv(), 20) == said[: 4 * 960]
        rest, others = await a_reply(client)
        assert (said[: 4 * 960] + rest, others) == (said, [])


async def test_sound_is_never_further_ahead_than_the_lead(open_house: Open) -> None:
    house = await open_house(AUDIO_LEAD="0.2")
    async with await house.call(query="?audio=binary") as client:
        began = asyncio.get_running_loop().time()
        await house.talks[0].speak(1.5)
        received = 0.0
        while received < 1.49:
            data = await asyncio.wait_for(client.recv(), 20)
            received += len(data) / 4 / 24_000
            assert received <= asyncio.get_running_loop().time() - began + 0.2 + 1e-3


async def test_an_interruption_ends_the_reply_and_its_sound(house: House) -> None:
    async with await house.call() as client:
        talk = house.talks[0]
        assert talk.output is not None
        said = await talk.speak(30)
        assert json.loads(await client.recv())["type"] == "tts_stream"
        talk.output.clear_buffer()
        sound, others = await a_reply(client)
        assert others == []
        assert len(sound) < len(said) / 10
        again = await talk.speak(0.1)
        assert await a_reply(client) == (again, [])


async def test_a_client_with_events_is_told_to_clear_its_playback_before_the_end(house: House) -> None:
    async with await house.call(query="?events=1") as client:
        assert await message(client) == {"type": "ready"}
        talk = house.talks[0]
        assert talk.output is not None
        await talk.speak(30)
        assert json.loads(await client.recv())["type"] == "tts_stream"
        talk.output.clear_buffer()
        _, others = await a_reply(client)
        assert others == [{"type": "interrupted"}]


async def test_a_provisional_pause_sends_nothing_and_loses_nothing(house: House) -> None:
    async with await house.call(query="?events=1&audio=binary") as client:
        assert await message(client) == {"type": "ready"}
        talk = house.talks[0]
        assert talk.output is not None
        said = await talk.speak(1.0)
        sound = await asyncio.wait_for(client.recv(), 20)
        talk.output.pause()
        for _ in range(100):
            await asyncio.sleep(0)
        talk.output.resume()
        rest, others = await a_reply(client)
        assert (sound + rest, others) == (said, [])


async def test_a_client_that_does_not_read_is_closed_with_the_reason(
    open_house: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compat_ws.outbox.PATIENCE", 0.5)
    house = await open_house(AUDIO_LEAD="5")
    async with connect(house.address("/ws/s1"), max_queue=2) as client:
        await client.send(HELLO)
        await until(lambda: house.talks and house.talks[0].output)
        await house.talks[0].speak(60)
        await until(lambda: house.talks[0].closed)
        _, code, reason = await ending(client)
    assert code == 1008
    assert reason is not None
    assert "nothing was read" in reason


# --- events and commands ----------------------------------------------------------------------------------


async def test_events_come_as_the_contract_writes_them(house: House) -> None:
    async with await house.call(query="?events=1") as client:
        assert await message(client) == {"type": "ready"}
        events = house.talks[0].events
        events.transcript("user", "hello", False)
        events.transcript("agent", "hi there", True)
        events.turn({"turn": 1, "session": "s1", "commit": 0.2, "heard": None})
        events.error("engine_failed", "the voice failed")
        assert [await message(client) for _ in range(4)] == [
            {"type": "transcript", "role": "user", "text": "hello", "final": False},
            {"type": "transcript", "role": "agent", "text": "hi there", "final": True},
            {"type": "turn", "turn": 1, "session": "s1", "commit": 0.2, "heard": None},
            {"type": "error", "code": "engine_failed", "message": "the voice failed"},
        ]


async def test_commands_are_carried_out_in_order(house: House) -> None:
    async with await house.call(query="?events=1") as client:
        await client.send('{"type": "text", "text": "hello"}')
        await client.send('{"type": "personality", "id": "sage"}')
        await client.send('{"type": "voice", "id": "nova"}')
        await until(lambda: len(house.talks[0].done) == 3)
    assert house.talks[0].done == [("type", "hello"), ("personality", "sage"), ("voice", "nova")]


async def test_what_cannot_be_done_is_told_and_the_call_goes_on(house: House) -> None:
    async with await house.call(query="?events=1") as client:
        assert await message(client) == {"type": "ready"}
        for wrong, code in [
            ("not json", "bad_request"),
            ('{"type": "dance"}', "bad_request"),
            ('{"type": "text"}', "bad_request"),
            ('{"type": "personality", "id": "nobody"}', "not_found"),
        ]:
            await client.send(wrong)
            told = await message(client)
            assert (told["type"], told["code"]) == ("error", code)
        await client.send('{"type": "text", "text": "still there"}')
        await until(lambda: house.talks[0].done == [("type", "still there")])


async def test_a_legacy_client_that_sends_text_is_told_how_to_opt_in(house: House) -> None:
    async with await house.call() as client:
        await client.send('{"type": "text", "text": "hello"}')
        assert "?events=1" in (await message(client))["message"]
        said = await house.talks[0].speak(0.1)
        assert await a_reply(client) == (said, [])


async def test_a_bug_inside_closes_the_call_without_showing_it(house: House) -> None:
    async with await house.call(query="?events=1") as client:
        await client.send('{"type": "text", "text": "crash"}')
        told, code, _ = await ending(client)
    assert (told[-1]["code"], code) == ("internal", 1011)
    assert "ZeroDivision" not in told[-1]["message"]
    await until(lambda: house.talks[0].closed)
