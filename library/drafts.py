"""A reply while it is being spoken: what was heard of it so far is stored with each renewal of the lease.

So a process that is killed in the middle of a reply leaves in the history what the person has heard, less the last
moment, marked as interrupted; the whole message later takes the draft's row. It costs no transaction of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from library.models import MessageRow
from library.text import storable


@dataclass(eq=False, slots=True)
class Draft:
    """One reply.

    Attributes:
        heard: Gives the words heard so far; None or empty where there are none.
        at: When it began, unix seconds.
        content: What is stored of it.
        row: Number of its message; None while nothing is stored.
    """

    heard: Callable[[], str | None]
    at: float
    content: str = ""
    row: int | None = None


async def write(session: AsyncSession, drafts: Mapping[str, Draft]) -> Callable[[], None]:
    """Store what has been heard since the last time.

    Args:
        session: A writing one.
        drafts: By conversation, which must exist.

    Returns:
        What to call once that is committed.
    """
    written: list[tuple[Draft, str, int]] = []
    for conversation, draft in drafts.items():
        content = storable(draft.heard() or "")
        if not content or content == draft.content:
            continue
        row = draft.row
        if row is None:
            message = {"conversation_id": conversation, "role": "assistant", "at": draft.at, "interrupted": True}
            added = insert(MessageRow).values(content=content, **message).returning(MessageRow.id)
            row = (await session.scalars(added)).one()
        else:
            await session.execute(update(MessageRow).where(MessageRow.id == row).values(content=content))
        written.append((draft, content, row))

    def committed() -> None:
        for draft, content, row in written:
            draft.content, draft.row = content, row

    return committed
