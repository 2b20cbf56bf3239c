"""A conversation continued over a new connection, on either transport, remembers what was said."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from tests.e2e.legacy_client import LegacyClient
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import Stack
from tests.speech import spoken, word_error_rate
from tests.spoken import pcm

FACT, QUESTION, ANSWER = "my name is mary", "what is my name", "mary"


ATTEMPTS = 3
"""Times a line is said: sound breaks up on a busy machine, and people who were misheard say it again."""


async def say_to_websocket(stack: Stack, session: str, text: str) -> str:
    """Say a line over a WebSocket of its own until it is understood; what the agent said to that."""
    async with LegacyClient(stack.compat, session, agent="storyteller", query="events=1") as client:
        await client.message("ready")
        for turn in range(ATTEMPTS):
            await client.say(pcm(spoken(text, "awb")))
            await client.reply(turn)
            await client.message("transcript", number=turn, role="agent", final=True)
            if word_error_rate(text, client.said("user")[turn]) == 0:
                break
        return client.said("agent")[-1]


async def say_in_room(stack: Stack, session: str, text: str) -> str:
    """Say a line in a room of its own until it is understood; what the agent said to that."""
    attributes = {"session_id": session, "personality": "storyteller"}
    async with RoomClient(stack.page, f"room-{uuid.uuid4().hex}", **attributes) as caller:
        await caller.agent()
        for turn in range(ATTEMPTS):
            since = len(caller.pieces)
            await caller.say(spoken(text, "awb"))
            said = await caller.heard("agent", turn)
            await caller.sound(0.3, since)
            await caller.silence(0.5)
            if word_error_rate(text, await caller.heard("user", turn)) == 0:
                break
        return said


WAYS = {"websocket": say_to_websocket, "room": say_in_room}


@pytest.mark.parametrize(
    ("first", "then"), [("websocket", "websocket"), ("room", "room"), ("websocket", "room"), ("room", "websocket")]
)
async def test_what_was_said_before_is_remembered(stack: Stack, first: str, then: str) -> None:
    session = f"continued-{uuid.uuid4().hex}"
    await WAYS[first](stack, session, FACT)
    said = await WAYS[then](stack, session, QUESTION)
    assert ANSWER in said.lower(), said


async def test_a_stranger_is_not_mixed_up_with_another(stack: Stack) -> None:
    known, stranger = (f"continued-{uuid.uuid4().hex}" for _ in range(2))
    await asyncio.gather(say_to_websocket(stack, known, FACT), say_to_websocket(stack, stranger, "how are you today"))
    assert ANSWER not in (await say_to_websocket(stack, stranger, QUESTION)).lower()


async def test_who_returns_is_not_greeted_again(stack: Stack) -> None:
    session = f"continued-{uuid.uuid4().hex}"
    async with LegacyClient(stack.compat, session, agent="assistant", query="events=1") as client:
        await client.reply(0)
        greeting = (await client.message("transcript", role="agent", final=True))["text"]
    async with LegacyClient(stack.compat, session, agent="assistant", query="events=1") as client:
        await client.message("ready")
        await client.say(pcm(spoken("what do you think about music", "awb")))
        await client.reply(0)
        first = await client.message("transcript", role="agent", final=True)
    assert first["text"] != greeting


async def test_a_second_socket_of_a_session_replaces_the_first(stack: Stack) -> None:
    session = f"continued-{uuid.uuid4().hex}"
    async with LegacyClient(stack.compat, session, agent="storyteller", query="events=1") as first:
        await first.message("ready")
        async with LegacyClient(stack.compat, session, agent="storyteller", query="events=1") as second:
            await second.message("ready")
            assert await first.closed() == 1008
            await second.say(pcm(spoken("how are you today", "awb")))
            await second.reply(0)
