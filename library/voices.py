"""Voices, as the engines are given them."""

from __future__ import annotations

from sqlalchemy import select

from engines.types import DEFAULT_VOICE, Voice
from library.database import Database
from library.models import PersonalityRow, VoiceRow
from library.text import storable


class Voices:
    """The voices of the database.

    Args:
        database: Where they are.
        default_personality: Id of the personality whose voice speaks where no other is known.
    """

    def __init__(self, database: Database, default_personality: str) -> None:
        self._database = database
        self._default_personality = default_personality

    async def all(self) -> list[Voice]:
        """Every voice, by name."""
        async with self._database.session() as session:
            rows = await session.scalars(select(VoiceRow).order_by(VoiceRow.name, VoiceRow.id))
            return [_voice(row) for row in rows]

    async def get(self, id: str) -> Voice | None:
        """The voice with this id, None if there is none."""
        async with self._database.session() as session:
            row = await session.get(VoiceRow, storable(id))
            return _voice(row) if row else None

    async def resolve(self, id: str | None) -> Voice:
        """The voice with this id; where there is none, the default personality's, which always exists."""
        if id and (voice := await self.get(id)):
            return voice
        async with self._database.session() as session:
            row = await session.scalar(
                select(VoiceRow).join(PersonalityRow).where(PersonalityRow.id == self._default_personality)
            )
            return _voice(row) if row else DEFAULT_VOICE


def _voice(row: VoiceRow) -> Voice:
    return Voice(
        id=row.id,
        name=row.name,
        language=row.language,
        engines=dict(row.engines),
        samples=tuple(row.samples),
        rate=row.rate,
        pitch=row.pitch,
    )
