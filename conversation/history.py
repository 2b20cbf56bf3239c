"""History: what a conversation has said, read at its start and written as it goes on.

Writing happens in order, off the conversation's own path, and only while its lease is held: a worker
that was thought dead and comes back must not write beside its successor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from livekit.agents import llm

from engines.types import Role
from library import Library
from library.conversations import StoredMessage
from library.drafts import Draft
from library.errors import LeaseLost
from library.leases import Lease

logger = logging.getLogger("voice_node.history")


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
        self._queue: asyncio.Queue[Said | None] = asyncio.Queue()
        self._waiting = 0
        """Messages that aren't stored yet."""
        self._writer: asyncio.Task[None] | None = None

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
        self._waiting += 1
        self._queue.put_nowait(said)

    async def aclose(self) -> None:
        """Write what is still waiting."""
        if self._writer is not None:
            self._queue.put_nowait(None)
            await self._writer
            self._writer = None

    async def _write_all(self) -> None:
        while (said := await self._queue.get()) is not None:
            try:
                row = await self._lease.row_of(said.draft) if self._lease and said.draft else None
                await self._library.conversations.append(
                    self._session_id,
                    said.role,
                    said.content,
                    at=said.at,
                    interrupted=said.interrupted,
                    lease=self._lease,
                    row=row,
                )
            except LeaseLost:
                logger.info("another process holds the conversation now", extra={"session": self._session_id})
                if self._on_lost is not None:
                    self._on_lost()
                return
            except Exception:
                # A message less in the history is bad; a conversation that stops for it would be worse.
                logger.exception("a message could not be stored", extra={"session": self._session_id})
            finally:
                self._waiting -= 1


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
