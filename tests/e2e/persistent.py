"""Callers who go on: they say it again when no answer comes, and connect again when their line has ended."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from typing import Protocol

import httpx
from livekit import rtc
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.e2e.legacy_client import LegacyClient
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import Stack
from tests.e2e.waiting import PATIENCE
from tests.speech import spoken
from tests.spoken import pcm

SAID_AGAIN_AFTER = 6.0
"""Seconds until somebody who wasn't answered says it again: longer than anything stands still in these tests."""
ALOUD = 0.2
"""Seconds of sound that make a reply heard."""
ANOTHER_TRY = 0.25
"""Seconds between attempts to connect."""

LOST = (AssertionError, OSError, ConnectionClosed, InvalidHandshake, TimeoutError, httpx.HTTPError, rtc.ConnectError)
"""How a client tells that its line, or the other side, is away."""


class Persistent(Protocol):
    """One person with one conversation."""

    session: str
    lines: int
    """Connections so far."""
    answered: float
    """When the latest answer was first heard, on the monotonic clock."""

    async def connect(self) -> None:
        """Connect and wait until the agent listens, however long it takes."""

    async def close(self) -> None:
        """Hang up."""

    async def begin(self, text: str, seconds: float) -> None:
        """Type something; returns once this much of the reply has sounded."""

    def sounding(self) -> bool:
        """Whether the reply goes on."""

    async def ask(self, text: str, word: str, *, aloud: bool = False, again: float = SAID_AGAIN_AFTER) -> str:
        """Type something, or say it aloud, until a reply with that word is heard; the reply."""

    def said(self) -> list[str]:
        """What the agent has said over all connections, as far as it was shown whole."""


class OnSocket:
    """Talks over the legacy WebSocket, with its session's id again after each loss."""

    def __init__(self, stack: Stack, personality: str = "assistant", session: str = "") -> None:
        self.session = session or f"socket-{uuid.uuid4().hex[:8]}"
        self._stack, self._personality = stack, personality
        self._before: list[str] = []
        self.client: LegacyClient | None = None
        self.lines = 0
        self.answered = 0.0

    async def connect(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                client = LegacyClient(self._stack.compat, self.session, agent=self._personality, query="events=1")
                try:
                    await client.__aenter__()
                    self.client = client
                    self.lines += 1
                    await client.message("ready")
                    return
                except LOST:
                    await self.close()
                    await asyncio.sleep(ANOTHER_TRY)

    async def close(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            self._before += client.said("agent")
            await client.__aexit__(None, None, None)

    async def begin(self, text: str, seconds: float) -> None:
        client = await self._connected()
        replies = len(client.replies) - 1
        await client.send({"type": "text", "text": text})
        await client.sound(replies, seconds)

    def sounding(self) -> bool:
        return self.client is not None and bool(self.client.replies[-1].pieces)

    async def ask(self, text: str, word: str, *, aloud: bool = False, again: float = SAID_AGAIN_AFTER) -> str:
        async with asyncio.timeout(2 * PATIENCE):
            while True:
                client = await self._connected()
                told = len(client.said("agent"))
                try:
                    if aloud:
                        await client.say(pcm(spoken(_words(text))))
                    else:
                        await client.send({"type": "text", "text": text})
                    async with asyncio.timeout(again):
                        while True:
                            await client.message("transcript", number=told, role="agent", final=True)
                            if word in client.said("agent")[told]:
                                break
                            told += 1
                    # Replies end in the order they were begun; this one sounds until the last end.
                    number = len(client.replies) - 1
                    async with asyncio.timeout(again):  # what was written and not spoken is asked for again
                        await client.sound(number, ALOUD)
                    reply = await client.reply(number)
                    self.answered = reply.pieces[0][0]
                    return client.said("agent")[told]
                except LOST:
                    if client.over:
                        await self.close()

    def said(self) -> list[str]:
        return self._before + (self.client.said("agent") if self.client else [])

    async def _connected(self) -> LegacyClient:
        while self.client is None or self.client.over:
            await self.close()
            await self.connect()
        return self.client


class InRoom:
    """Talks in a room; LiveKit's SDK mends the line, and where it gives up a fresh token is fetched."""

    def __init__(self, stack: Stack, personality: str = "assistant", session: str = "") -> None:
        self.session = session or f"room-{uuid.uuid4().hex[:8]}"
        self._stack, self._personality = stack, personality
        self._before: list[str] = []
        self.client: RoomClient | None = None
        self.lines = 0
        self.answered = 0.0

    async def connect(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                attributes = {"session_id": self.session, "personality": self._personality}
                client = RoomClient(self._stack.page, self.session, **attributes)
                try:
                    await client.__aenter__()
                    self.client = client
                    self.lines += 1
                    await client.listening()
                    return
                except LOST:
                    await self.close()
                    await asyncio.sleep(ANOTHER_TRY)

    async def close(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            self._before += client.said("agent")
            await client.__aexit__(None, None, None)

    async def begin(self, text: str, seconds: float) -> None:
        client = await self._connected()
        since = len(client.pieces)
        await client.type(text)
        await client.sound(seconds, since)

    def sounding(self) -> bool:
        return self.client is not None and self.client.states[-1:] == ["speaking"]

    async def ask(self, text: str, word: str, *, aloud: bool = False, again: float = SAID_AGAIN_AFTER) -> str:
        async with asyncio.timeout(2 * PATIENCE):
            while True:
                client = await self._connected()
                told, since = len(client.said("agent")), len(client.pieces)
                try:
                    if aloud:
                        await client.say(spoken(_words(text)))
                    async with asyncio.timeout(again):
                        if not aloud:
                            await client.type(text)
                        while word not in await client.heard("agent", told):
                            told += 1
                    await client.sound(ALOUD, since, again)
                    self.answered = time.monotonic()
                    await client.state("listening")
                    return client.said("agent")[told]
                except LOST:
                    if client.over:
                        await self.close()

    def said(self) -> list[str]:
        return self._before + (self.client.said("agent") if self.client else [])

    def agents(self) -> list[str]:
        """Agents listed in the room."""
        assert self.client is not None
        kinds = rtc.ParticipantKind
        everybody = self.client.room.remote_participants.values()
        return [one.identity for one in everybody if one.kind == kinds.PARTICIPANT_KIND_AGENT]

    async def _connected(self) -> RoomClient:
        """The client while a line stands and an agent is there: nobody types into an empty room."""
        while True:
            if self.client is None or self.client.over:
                await self.close()
                await self.connect()
            assert self.client is not None
            with contextlib.suppress(*LOST):
                await self.client.listening()
                return self.client


def _words(text: str) -> str:
    """A line as it is read aloud."""
    return re.sub(r"[^a-z' ]", "", text.lower())
