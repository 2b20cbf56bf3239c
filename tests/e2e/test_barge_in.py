"""Speech over a reply stops it, on both transports, and what was said over it is answered."""

from __future__ import annotations

import asyncio
import uuid

from tests.e2e.legacy_client import LegacyClient
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import Stack
from tests.speech import spoken
from tests.spoken import pcm

FACT = "My name is Mary."
LONG_QUESTION = "Are you a real language model?"
OVER_IT, ANSWER = "what is my name", "mary"
ENOUGH = 1.0
"""Seconds of the reply after which it is interrupted."""


def session() -> str:
    """A conversation nobody has had."""
    return f"barge-in-{uuid.uuid4().hex}"


async def test_over_the_websocket(stack: Stack) -> None:
    whole, (cut, said) = await asyncio.gather(websocket_reply(stack), interrupted_websocket_reply(stack))
    assert cut < whole - 1.0, f"{cut:.1f} s were sent of a reply of {whole:.1f} s"
    assert ANSWER in said.lower()


async def websocket_reply(stack: Stack) -> float:
    """Seconds of the reply that is left alone."""
    async with LegacyClient(stack.compat, session(), agent="storyteller", query="events=1") as client:
        await client.message("ready")
        await client.send({"type": "text", "text": FACT})
        await client.reply(0)
        await client.send({"type": "text", "text": LONG_QUESTION})
        return (await client.reply(1)).seconds


async def interrupted_websocket_reply(stack: Stack) -> tuple[float, str]:
    """Seconds of the reply that was spoken over, and what was said to that."""
    async with LegacyClient(stack.compat, session(), agent="storyteller", query="events=1") as client:
        await client.message("ready")
        await client.send({"type": "text", "text": FACT})
        await client.reply(0)
        await client.send({"type": "text", "text": LONG_QUESTION})
        await client.sound(1, ENOUGH)
        await client.say(pcm(spoken(OVER_IT, "awb")))
        cut = await client.reply(1)
        await client.message("interrupted")
        await client.reply(2)
        await client.message("transcript", number=2, role="agent", final=True)
        assert client.said("user")[-1].lower().split() == OVER_IT.split()
        return cut.seconds, client.said("agent")[-1]


async def test_in_a_room(stack: Stack) -> None:
    whole, (cut, said) = await asyncio.gather(room_reply(stack), interrupted_room_reply(stack))
    assert cut < whole - 1.0, f"{cut:.1f} s were heard of a reply of {whole:.1f} s"
    assert ANSWER in said.lower()


async def ask_in_room(caller: RoomClient) -> int:
    """Tell the fact, ask the long question; returns the piece of sound after which its reply comes."""
    await caller.agent()
    await caller.type(FACT)
    await caller.heard("agent", 0)
    await caller.silence(0.5)
    since = len(caller.pieces)
    await caller.type(LONG_QUESTION)
    return since


async def room_reply(stack: Stack) -> float:
    """Seconds of sound of the reply that is left alone."""
    async with RoomClient(stack.page, session(), personality="storyteller") as caller:
        since = await ask_in_room(caller)
        await caller.heard("agent", 1)
        await caller.silence(1.0)
        return caller.spoken(since)


async def interrupted_room_reply(stack: Stack) -> tuple[float, str]:
    """Seconds of sound of the reply that was spoken over, and what was said to that."""
    async with RoomClient(stack.page, session(), personality="storyteller") as caller:
        since = await ask_in_room(caller)
        await caller.sound(ENOUGH, since)
        await caller.say(spoken(OVER_IT, "awb"))
        cut = caller.spoken(since)
        said = await caller.heard("agent", 2)
        assert caller.said("user")[-1].lower().split() == OVER_IT.split()
        return cut, said
