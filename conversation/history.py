"""History: what a conversation has said, read at its start and written as it goes on.

Writing happens in order, off the conversation's own path, and only while its lease is held: a worker
that was thought dead and comes back must not write beside its successor. What can't be written now (the
database is locked, full or away) is kept in memory and written when it can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from livekit.agents import llm

from engines.tally import tally
from engines.types import Role
from library import Library
from library.conversations import StoredMessage
from library.drafts import Draft
from library.errors import DatabaseError, LeaseLost
from library.leases import Lease

logger = logging.getLogger("voice_node.history")


WAITING = 1000
"""Messages of a conversation kept in memory while they can't be written; of more, the oldest are given up."""

AGAIN_AFTER = 0.5
"""Seconds between attempts to write."""

LAST_TRIES = 60.0
"""Seconds that are spent at the end on what still waits: who hangs up while the database is locked finds it later."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message on its way into the database; `at` is unix seconds."""

    role: Role
    content: str
    at: float
    interrupted: bool
    draft: Draft | None = None
    """What was stored of it while it was spoken."""


class History:
    """The stored messages of one conversation.

    Args:
        lease: Held while writing is allowed; None where nobody else can hold the conversation.
        on_lost: Told once if another holder took the conversation over.
    """

    def __init__(
        self,
        library: Library,
        session_id: str,
        *,
        lease: Lease | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self._library = library
        self._session_id = session_id
        self._lease = lease
        self._on_lost = on_lost
        self._waiting: deque[Said] = deque()
        self._more = asyncio.Event()
        self._closing = False
        self._lost = False
        self._given_up = 0
        self._writer: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Messages that are yet to be written."""
        return len(self._waiting)

    async def read(self, newest: int) -> list[StoredMessage]:
        """The newest messages, oldest first."""
        return await self._library.conversations.messages(self._session_id, limit=newest)

    def speaks(self, heard: Callable[[], str | None]) -> None:
        """A reply is being spoken: keep storing what was heard of it, in case this process doesn't see its end."""
        if self._lease is not None:
            # Not before what was said earlier is stored: rows stand in the order of speaking.
            self._lease.draft = Draft(lambda: None if self._waiting else heard(), time.time())

    def write(self, role: Role, content: str, at: float, interrupted: bool) -> None:
        """Store one message; returns at once."""
        said = Said(role, content, at, interrupted)
        if role == "assistant" and self._lease is not None:
            draft, self._lease.draft = self._lease.draft, None
            said = replace(said, draft=draft)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_all(), name="history")
        if self._lost:
            return
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self._given_up += 1
            tally("history_writes", outcome="failed")
        self._waiting.append(said)
        tally("history_writes_queued")
        self._more.set()

    async def aclose(self) -> None:
        """Write what is still waiting, as far as it can be."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._closing = True
        self._more.set()
        await asyncio.wait({writer}, timeout=LAST_TRIES)
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
        self._given_up += len(self._waiting)
        if self._waiting:
            tally("history_writes", len(self._waiting), outcome="failed")
        self._waiting.clear()
        if self._given_up:
            logger.error(
                "messages could not be stored", extra={"session": self._session_id, "messages": self._given_up}
            )

    async def _write_all(self) -> None:
        tried: Said | None = None
        while True:
            while self._waiting:
                said = self._waiting[0]
                try:
                    await self._append(said, again=said is tried)
                except LeaseLost:
                    logger.info("another process holds the conversation now", extra={"session": self._session_id})
                    self._lost = True
                    tally("history_writes", len(self._waiting), outcome="lost")
                    self._waiting.clear()
                    if self._on_lost is not None:
                        self._on_lost()
                    return
                except DatabaseError:  # which the library has told about
                    tried = said
                    await asyncio.sleep(AGAIN_AFTER)
                    continue
                except Exception:
                    # A message less in the history is bad; a conversation that stops for it would be worse.
                    logger.exception("a message could not be stored", extra={"session": self._session_id})
                    tally("history_writes", outcome="failed")
                else:
                    tally("history_writes", outcome="stored")
                if self._waiting and self._waiting[0] is said:
                    self._waiting.popleft()
            if self._closing:
                return
            self._more.clear()
            await self._more.wait()

    async def _append(self, said: Said, again: bool) -> None:
        row = await self._lease.row_of(said.draft) if self._lease and said.draft else None
        await self._library.conversations.append(
            self._session_id,
            said.role,
            said.content,
            at=said.at,
            interrupted=said.interrupted,
            lease=self._lease,
            row=row,
            again=again,
        )


def as_chat_context(messages: list[StoredMessage]) -> llm.ChatContext:
    """Stored messages as the framework's context."""
    context = llm.ChatContext.empty()
    for message in messages:
        context.add_message(
            role=message.role,
            content=message.content,
            created_at=message.at,
            interrupted=message.interrupted,
        )
    return context
