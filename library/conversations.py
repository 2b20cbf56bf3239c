"""The history of conversations: what was said, in order, kept across restarts and connections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engines.types import Role
from library.database import Database
from library.errors import LeaseLost
from library.holder import Lease
from library.models import ConversationRow, LeaseTable, MessageRow
from library.text import check_session_id, storable

_ROLES = get_args(Role)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a conversation."""

    role: Role
    content: str
    at: float
    """Unix seconds."""
    interrupted: bool = False
    """Whether it was cut off; the content is then what was heard of it."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a conversation was last held with; None where nobody said."""

    id: str
    personality: str | None
    voice: str | None
    user: str | None


class Conversations:
    """The conversations of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def messages(self, session_id: str, limit: int | None = None) -> list[StoredMessage]:
        """The messages in the order they were appended; of more than `limit` the newest.

        Raises:
            SessionIdError: The session id can't name a conversation.
            ValueError: `limit` is negative.
        """
        check_session_id(session_id)
        if limit is not None and limit < 0:
            raise ValueError("limit must be 0 or more")
        newest_first = (
            select(MessageRow)
            .where(MessageRow.conversation_id == session_id)
            .order_by(MessageRow.id.desc())
            .limit(limit)
        )
        async with self._database.session() as session:
            rows = list(await session.scalars(newest_first))
        return [StoredMessage(_role(row.role), row.content, row.at, row.interrupted) for row in reversed(rows)]

    async def append(
        self,
        session_id: str,
        role: Role,
        content: str,
        at: float | None = None,
        interrupted: bool = False,
        personality: str | None = None,
        user: str | None = None,
        lease: Lease | None = None,
        row: int | None = None,
        again: bool = False,
    ) -> StoredMessage:
        """Add a message at the end, making the conversation if it is new; all of it is written, or nothing.

        Args:
            session_id: The conversation.
            role: Who said it.
            content: What was said.
            at: Unix seconds; now where None.
            interrupted: Whether it was cut off.
            personality: Remembered with the conversation, if given.
            user: Remembered with the conversation, if given.
            lease: The writer's lease; given one, the message is written only while that lease holds the conversation.
            row: Number of the draft whose place it takes (library/drafts.py).
            again: Whether an earlier attempt failed; its message may be there all the same, where the database went
                away after it had written it. It is then not written twice.

        Raises:
            LeaseLost: Another holder has the conversation now; the lease knows it from then on.
            SessionIdError: The session id can't name a conversation.
            ValueError: The role is none of system, user, assistant, or the lease is another conversation's.
            DatabaseError: The database failed.
        """
        check_session_id(session_id)
        message = StoredMessage(_role(role), storable(content), time.time() if at is None else at, interrupted)
        if lease is not None and lease.session_id != session_id:
            raise ValueError(f"the lease is for another conversation than {session_id!r}")
        async with self._database.transaction() as session:
            if lease is not None:
                # locked for the transaction, so that a newer claim comes after this message or refuses it
                owner = await session.scalar(
                    select(LeaseTable.token).where(LeaseTable.session_id == session_id).with_for_update(read=True)
                )
                if owner != lease.token:
                    lease.lose()
                    raise LeaseLost("another connection has taken over this conversation; nothing was written")
            await self._note(session, session_id, personality=personality, user=user)
            columns = {"content": message.content, "at": message.at, "interrupted": interrupted}
            if row is not None:
                draft = update(MessageRow).where(MessageRow.id == row, MessageRow.conversation_id == session_id)
                taken = await session.execute(draft.values(role=message.role, **columns).returning(MessageRow.id))
                if taken.first() is not None:
                    return message
            if again and await self._newest(session, session_id) == message:
                return message
            await session.execute(insert(MessageRow).values(conversation_id=session_id, role=message.role, **columns))
        return message

    async def append_all(
        self, session_id: str, messages: Sequence[StoredMessage], personality: str | None = None
    ) -> None:
        """Add messages at the end, making the conversation if it is new; all of them are written, or none.

        Args:
            session_id: The conversation.
            messages: In their order.
            personality: Remembered with the conversation, if given.

        Raises:
            SessionIdError: The session id can't name a conversation.
            DatabaseError: The database failed.
        """
        check_session_id(session_id)
        async with self._database.transaction() as session:
            await self._note(session, session_id, personality=personality)
            for one in messages:
                columns = {"role": one.role, "content": storable(one.content), "at": one.at}
                message = insert(MessageRow).values(conversation_id=session_id, interrupted=one.interrupted, **columns)
                await session.execute(message)

    async def _newest(self, session: AsyncSession, session_id: str) -> StoredMessage | None:
        newest = select(MessageRow).where(MessageRow.conversation_id == session_id).order_by(MessageRow.id.desc())
        row = await session.scalar(newest.limit(1))
        return StoredMessage(_role(row.role), row.content, row.at, row.interrupted) if row else None

    async def get(self, session_id: str) -> Conversation | None:
        """What the conversation was last held with; None if there is no such conversation.

        Raises:
            SessionIdError: The session id can't name a conversation.
        """
        check_session_id(session_id)
        async with self._database.session() as session:
            row = await session.get(ConversationRow, session_id)
            return Conversation(row.id, row.personality, row.voice, row.user) if row else None

    async def remember(
        self,
        session_id: str,
        personality: str | None = None,
        voice: str | None = None,
        user: str | None = None,
    ) -> None:
        """Keep what the conversation is held with, making the conversation if it is new; None leaves a value as it is.

        Raises:
            SessionIdError: The session id can't name a conversation.
            DatabaseError: The database failed.
        """
        check_session_id(session_id)
        async with self._database.transaction() as session:
            await self._note(session, session_id, personality=personality, voice=voice, user=user)

    async def forget(self, session_id: str) -> bool:
        """Delete the conversation with all its messages; False if there was none.

        Raises:
            SessionIdError: The session id can't name a conversation.
            DatabaseError: The database failed.
        """
        check_session_id(session_id)
        async with self._database.transaction() as session:
            gone = await session.scalars(
                delete(ConversationRow).where(ConversationRow.id == session_id).returning(ConversationRow.id)
            )
            return gone.first() is not None

    async def _note(self, session: AsyncSession, session_id: str, **given: str | None) -> None:
        now = time.time()
        known = {name: storable(value) for name, value in given.items() if value is not None}
        row = {"id": session_id, "personality": None, "voice": None, "user": None, "created_at": now, "updated_at": now}
        await session.execute(
            self._database.upsert(ConversationRow, "id", row | known, changes=known | {"updated_at": now})
        )


def _role(role: str) -> Role:
    for known in _ROLES:
        if role == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"a message's role is one of {', '.join(_ROLES)}, not {role!r}")
