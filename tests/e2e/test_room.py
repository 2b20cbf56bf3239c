"""A caller with LiveKit's Python SDK, by way of the token endpoint, holds a spoken conversation in a room."""

from __future__ import annotations

import uuid

from tests.e2e.room_client import HEARD_RATE, RoomClient
from tests.e2e.stack import Stack
from tests.sound import audible_seconds, rms
from tests.speech import spoken, word_error_rate


def room() -> str:
    """A room nobody has been in."""
    return f"room-{uuid.uuid4().hex}"


async def test_a_question_is_heard_answered_aloud_and_recorded(stack: Stack) -> None:
    question, name = "what do you think about music", room()
    async with RoomClient(stack.page, name, personality="storyteller") as caller:
        await caller.agent()
        await caller.state("listening")
        since = len(caller.pieces)
        await caller.say(spoken(question, "awb"))
        heard = await caller.heard("user")
        answered = await caller.heard("agent")
        record = await caller.turn()
        await caller.sound(0.5, since)
        await caller.silence(0.5)
        assert word_error_rate(question, heard) <= 0.2, heard
        assert len(answered.split()) >= 3
        samples = caller.samples(since)
        assert audible_seconds(samples, HEARD_RATE) > 0.5
        assert rms(samples[abs(samples) > 0.01]) > 0.02
        assert record["session"] == name, "without an id of its own a conversation is named by its room"
        assert record["turn"] == 1
        assert all(isinstance(record[stage], float) for stage in ("commit", "transcript", "first_audio", "sent"))
        assert {"thinking", "speaking", "listening"} & set(caller.states)


async def test_the_default_personality_greets_before_anything_is_said(stack: Stack) -> None:
    async with RoomClient(stack.page, room()) as caller:
        greeting = await caller.heard("agent")
        await caller.sound(0.5)
        assert greeting.split()
        assert caller.said("user") == []


async def test_typed_messages_are_answered_aloud(stack: Stack) -> None:
    async with RoomClient(stack.page, room(), personality="storyteller") as caller:
        await caller.agent()
        await caller.type("My favorite color is green.")
        await caller.heard("agent", 0)
        await caller.type("What is my favorite color?")
        answered = await caller.heard("agent", 1)
        await caller.sound(0.5)
        assert "green" in answered.lower()
