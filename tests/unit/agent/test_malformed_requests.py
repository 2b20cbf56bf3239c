"""What people in a room may send that nobody should: each call is answered or refused, and the next one served."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import rtc
from livekit.agents.types import TOPIC_CHAT

from agent.room_requests import AT_ONCE, TOPIC_HEARD, WHOLE_WITHIN, Asked, RoomRequests
from library.personalities import Personality
from tests.malformed import ANSWERED, Malformed, seed_named, shown
from tests.virtual_clock import virtual_time

CALLS = {"voice.clock": {"t0": 1.5}, "voice.personality": {"id": "sage"}, "voice.voice": {"id": "nova"}}


class Told:
    """A conversation that notes what it is asked for."""

    def __init__(self) -> None:
        self.typed: list[str] = []
        self.reports: list[tuple[int, float]] = []

    async def type(self, text: str) -> None:
        self.typed.append(text)

    async def use_personality(self, personality_id: str) -> Personality:
        if personality_id != "sage":
            raise LookupError(f"there is no personality '{personality_id}'")
        return Personality("sage", "Sage", "", "en", "", "", "nova")

    async def use_voice(self, voice_id: str) -> Any:
        if voice_id != "nova":
            raise LookupError(f"there is no voice '{voice_id}'")
        return SimpleNamespace(id="nova", name="Nova")

    def heard(self, turn: int, at: float) -> None:
        if turn > 5:
            raise LookupError("there is no such turn")
        self.reports.append((turn, at))


class Reader:
    """A text on its way, in pieces."""

    def __init__(self, text: str) -> None:
        self.pieces = [text[start : start + 5000] for start in range(0, len(text), 5000)]

    async def __aiter__(self) -> AsyncIterator[str]:
        for piece in self.pieces:
            yield piece

    def close(self) -> None:
        pass


class FakeRoom:
    """The part of a room that requests come through."""

    def __init__(self) -> None:
        human = SimpleNamespace(kind=rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD, identity="ada", attributes={})
        self.remote_participants = {"ada": human}
        self.texts: dict[str, Callable[[Reader, str], None]] = {}
        self.calls: dict[str, Callable[[rtc.RpcInvocationData], Awaitable[str]]] = {}
        self.local_participant = SimpleNamespace(
            register_rpc_method=self.calls.__setitem__, unregister_rpc_method=self.calls.__delitem__
        )

    def on(self, *_: object) -> None:
        pass

    def off(self, *_: object) -> None:
        pass

    def register_text_stream_handler(self, topic: str, handler: Callable[[Reader, str], None]) -> None:
        self.texts[topic] = handler

    def unregister_text_stream_handler(self, topic: str) -> None:
        del self.texts[topic]

    def isconnected(self) -> bool:
        return True


class EndlessReader(Reader):
    """A text of which no more comes, and no end."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[str]:
        yield "to be continued"
        await asyncio.Event().wait()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
async def room() -> AsyncIterator[tuple[FakeRoom, Told]]:
    async with asked_in_room() as both:
        yield both


@asynccontextmanager
async def asked_in_room() -> AsyncIterator[tuple[FakeRoom, Told]]:
    fake, told = FakeRoom(), Told()
    conversation: asyncio.Future[Asked] = asyncio.get_running_loop().create_future()
    conversation.set_result(cast(Asked, told))
    requests = RoomRequests(cast(rtc.Room, fake), conversation, time.time)
    yield fake, told
    await requests.aclose()


async def ask(room: FakeRoom, method: str, payload: str) -> dict[str, Any]:
    """A call's answer, or the error in its refusal; both can be sent, so both are UTF-8."""
    try:
        answer = await room.calls[method](rtc.RpcInvocationData("1", "ada", payload, 10.0))
        answer.encode()
        return dict(json.loads(answer))
    except rtc.RpcError as refusal:
        assert refusal.code in (400, 404)
        refusal.message.encode()
        assert refusal.data is not None
        refusal.data.encode()
        return dict(json.loads(refusal.data)["error"])


async def test_calls_are_answered_or_refused_whatever_they_say(room: tuple[FakeRoom, Told]) -> None:
    made = Malformed("calls")
    with seed_named():
        for _ in range(1000):
            method = made.random.choice(list(CALLS))
            sent = made.text([CALLS[method]])
            payload = sent.decode(errors="replace") if isinstance(sent, bytes) else sent
            answer = await ask(room[0], method, payload)
            assert answer.keys() in ANSWERED, shown(sent)
    assert (await ask(room[0], "voice.personality", '{"id": "sage"}'))["name"] == "Sage"
    assert (await ask(room[0], "voice.clock", '{"t0": 3}'))["t0"] == 3


async def test_texts_are_taken_or_dropped_whatever_they_say(
    room: tuple[FakeRoom, Told], caplog: pytest.LogCaptureFixture
) -> None:
    fake, told = room
    made = Malformed("texts")
    caplog.set_level(logging.INFO)
    with seed_named():
        for _ in range(1000):
            topic = made.random.choice((TOPIC_CHAT, TOPIC_HEARD))
            sent = made.text([{"turn": 1, "at": 1.5, "error": 0.1}])
            fake.texts[topic](Reader(sent.decode(errors="replace") if isinstance(sent, bytes) else sent), "ada")
            await asyncio.sleep(0)
        fake.texts[TOPIC_CHAT](Reader("still there?"), "ada")
        fake.texts[TOPIC_HEARD](Reader('{"turn": 2, "at": 2.5}'), "ada")
        async with asyncio.timeout(30):
            while "still there?" not in told.typed or (2, 2.5) not in told.reports:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert "still there?" not in caplog.text


@virtual_time
async def test_texts_that_never_end_are_dropped_in_time_and_never_too_many_are_kept() -> None:
    async with asked_in_room() as (fake, told):
        endless = [EndlessReader("") for _ in range(AT_ONCE + 1)]
        for reader in endless:
            fake.texts[TOPIC_CHAT](reader, "ada")
        await asyncio.sleep(WHOLE_WITHIN - 1)
        assert [reader.closed for reader in endless] == [False] * AT_ONCE + [True]
        await asyncio.sleep(2)
        assert all(reader.closed for reader in endless)
        fake.texts[TOPIC_CHAT](Reader("still there?"), "ada")
        await asyncio.sleep(1)
        assert told.typed == ["still there?"], "nothing of what had no end was answered"
