"""Speech over a reply stops it, on both transports, and what was said over it is answered."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.e2e.legacy_client import LegacyClient
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import Stack
from tests.speech import spoken, word_error_rate
from tests.spoken import pcm

FACT = "My name is Mary."
LONG_QUESTION = "Are you a real language model?"
OVER_IT, ANSWER = "do you still remember what my name is", "mary"
ENOUGH = 1.0
"""Seconds of the reply after which it is interrupted."""


def session() -> str:
    """A conversation nobody has had."""
    return f"barge-in-{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What became of a reply that was spoken over.

    Attributes:
        seconds: How much of it came.
        heard: What was understood of the caller.
        answered: What was said to that.
    """

    seconds: float
    heard: str
    answered: str

    def check(self, whole: float) -> None:
        """The reply, `whole` seconds long when left alone, gave way to the caller, who was answered."""
        assert self.seconds < whole - 1.0, f"{self.seconds:.1f} s came of a reply of {whole:.1f} s"
        assert self.understood, self.heard
        assert ANSWER in self.answered.lower(), self.answered

    @property
    def understood(self) -> bool:
        """Whether the caller was understood to the word."""
        return word_error_rate(OVER_IT, self.heard) == 0


async def until_understood(attempt: Callable[[Stack], Awaitable[Interrupted]], stack: Stack) -> Interrupted:
    """Interrupt again where the caller was misheard: sound breaks up on a busy machine."""
    for _ in range(2):
        interrupted = await attempt(stack)
        if interrupted.understood:
            return interrupted
    return await attempt(stack)


async def test_over_the_websocket(stack: Stack) -> None:
    interrupting = until_understood(interrupted_websocket_reply, stack)
    whole, interrupted = await asyncio.gather(websocket_reply(stack), interrupting)
    interrupted.check(whole)


async def ask_websocket(client: LegacyClient) -> None:
    """Tell the fact, then ask what is answered at length; that answer is reply 1."""
    await client.message("ready")
    await client.send({"type": "text", "text": FACT})
    await client.reply(0)
    await client.send({"type": "text", "text": LONG_QUESTION})


async def websocket_reply(stack: Stack) -> float:
    """Seconds of the reply that is left alone."""
    async with LegacyClient(stack.compat, session(), agent="storyteller", query="events=1") as client:
        await ask_websocket(client)
        return (await client.reply(1)).seconds


async def interrupted_websocket_reply(stack: Stack) -> Interrupted:
    """What became of the reply that was spoken over."""
    async with LegacyClient(stack.compat, session(), agent="storyteller", query="events=1") as client:
        await ask_websocket(client)
        await client.sound(1, ENOUGH)
        await client.say(pcm(spoken(OVER_IT, "awb")))
        cut = await client.reply(1)
        await client.message("interrupted")
        await client.reply(2)
        answered = await client.message("transcript", number=2, role="agent", final=True)
        return Interrupted(cut.seconds, client.said("user")[-1], answered["text"])


async def test_in_a_room(stack: Stack) -> None:
    interrupting = until_understood(interrupted_room_reply, stack)
    whole, interrupted = await asyncio.gather(room_reply(stack), interrupting)
    interrupted.check(whole)


async def ask_in_room(caller: RoomClient) -> int:
    """Tell the fact, ask what is answered at length; returns after which piece of sound that answer comes."""
    await caller.agent()
    await caller.type(FACT)
    await caller.heard("agent", 0)
    await caller.sound(0.3)
    await caller.silence(0.5)
    since = len(caller.pieces)
    await caller.type(LONG_QUESTION)
    return since


async def room_reply(stack: Stack) -> float:
    """Seconds of sound of the reply that is left alone."""
    async with RoomClient(stack.page, session(), personality="storyteller") as caller:
        since = await ask_in_room(caller)
        await caller.heard("agent", 1)
        await caller.sound(ENOUGH, since)
        await caller.silence(1.0)
        return caller.spoken(since)


async def interrupted_room_reply(stack: Stack) -> Interrupted:
    """What became of the reply that was spoken over."""
    async with RoomClient(stack.page, session(), personality="storyteller") as caller:
        since = await ask_in_room(caller)
        await caller.sound(ENOUGH, since)
        await caller.say(spoken(OVER_IT, "awb"))
        heard = await caller.heard("user", 2)  # after the two that were typed
        seconds = caller.spoken(since)
        return Interrupted(seconds, heard, await caller.heard("agent", 2))
