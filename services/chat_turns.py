"""One turn of a kept conversation: its context from the database, the reply from the engine, both written back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from engines.types import ChatModel, Message
from library import Library, Personality, StoredMessage


class SessionLocks:
    """One turn at a time in each conversation, first come, first served."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, session_id: str) -> AsyncIterator[None]:
        """Wait for the conversation's turn under way to end, and have the next."""
        lock, users = self._locks.get(session_id, (asyncio.Lock(), 0))
        self._locks[session_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(session_id)
            if users > 1:
                self._locks[session_id] = (lock, users - 1)


@dataclass
class Turn:
    """What a caller said in a conversation, and what is needed to answer it.

    Attributes:
        personality: Who answered; set when the first piece is there.
        heard_early: Whether the caller reads the reply while it is made. Where they do and leave in the middle, what
            was made until then is kept as an interrupted reply; else the turn leaves no trace.
    """

    library: Library
    engine: ChatModel
    locks: SessionLocks
    history_messages: int
    session_id: str
    text: str
    wanted: str | None
    heard_early: bool
    personality: Personality | None = None

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The reply as it is made; the turn is written once it is whole.

        Raises:
            EngineError: The engine failed; the turn leaves no trace, so that it can be asked again.
            LibraryError: The database failed.
        """
        async with self.locks.turn(self.session_id):
            messages = await self._context()
            asked_at = time.time()
            said: list[str] = []
            try:
                async with aclosing(self.engine.reply(messages, conversation=self.session_id)) as reply:
                    async for piece in reply:
                        said.append(piece)
                        yield piece
            except (GeneratorExit, asyncio.CancelledError):
                if self.heard_early and said:
                    await self._write(asked_at, "".join(said), interrupted=True)
                raise
            await self._write(asked_at, "".join(said), interrupted=False)

    async def _context(self) -> list[Message]:
        conversations = self.library.conversations
        known = await conversations.get(self.session_id)
        self.personality = await self.library.personalities.resolve(
            self.wanted or (known.personality if known else None)
        )
        history = await conversations.messages(self.session_id, limit=self.history_messages - 1)
        return [
            Message("system", self.personality.prompt),
            *(Message(message.role, message.content) for message in history),
            Message("user", self.text),
        ]

    async def _write(self, asked_at: float, said: str, *, interrupted: bool) -> None:
        assert self.personality is not None
        turn = [StoredMessage("user", self.text, asked_at)]
        if said.strip():
            turn.append(StoredMessage("assistant", said.strip(), time.time(), interrupted))
        await self.library.conversations.append_all(self.session_id, turn, personality=self.personality.id)
