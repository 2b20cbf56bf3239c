"""Personalities: who the agent is, found by id, with a default for whoever asks for an unknown one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sqlalchemy import select

from library.database import Database
from library.errors import LibraryError
from library.models import PersonalityRow
from library.text import storable

NAME_LENGTH = 60
"""Longest name, in characters, that a caller may give the default personality."""


@dataclass(frozen=True, slots=True)
class Personality:
    """Who the agent is."""

    id: str
    name: str
    description: str
    language: str
    """BCP 47 tag of the language it speaks."""
    prompt: str
    """The system message; its first sentence says the name."""
    greeting: str
    """What it says first in a new conversation; empty where it waits to be spoken to."""
    voice: str
    """Id of its voice."""
    patience: float = 1.0
    """Factor on the silence it waits for before it answers."""

    def named(self, name: str) -> Personality:
        """The same personality under another name, also where its prompt and greeting say the name.

        The name comes from callers: it is cut to one line of 60 characters; an empty one changes nothing.
        """
        clean = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:NAME_LENGTH].strip()
        if not clean or clean == self.name:
            return self
        own = re.compile(rf"(?<!\w){re.escape(self.name)}(?!\w)")
        return replace(
            self,
            name=clean,
            description=own.sub(lambda _: clean, self.description),
            prompt=own.sub(lambda _: clean, self.prompt),
            greeting=own.sub(lambda _: clean, self.greeting),
        )


class Personalities:
    """The personalities of the database.

    Args:
        database: Where they are.
        default: Id of the personality that stands in for unknown ones.
    """

    def __init__(self, database: Database, default: str) -> None:
        self._database = database
        self.default = default

    async def all(self) -> list[Personality]:
        """Every personality, the default one first, the others by name."""
        async with self._database.session() as session:
            rows = await session.scalars(select(PersonalityRow).order_by(PersonalityRow.name, PersonalityRow.id))
            found = [_personality(row) for row in rows]
        return sorted(found, key=lambda personality: personality.id != self.default)

    async def get(self, id: str) -> Personality | None:
        """The personality with this id, None if there is none."""
        async with self._database.session() as session:
            row = await session.get(PersonalityRow, storable(id))
            return _personality(row) if row else None

    async def resolve(self, id: str | None, name: str | None = None) -> Personality:
        """The personality with this id; where there is none, the default one, under `name` if that is given.

        Raises:
            LibraryError: The default personality is gone from the database.
        """
        if id and (known := await self.get(id)):
            return known
        default = await self.get(self.default)
        if default is None:
            known_ids = ", ".join(personality.id for personality in await self.all()) or "none"
            raise LibraryError(
                f"DEFAULT_PERSONALITY names '{self.default}', which doesn't exist (there are: {known_ids}): "
                "name one of them, or add its file to PERSONALITIES_DIR"
            )
        return default.named(name) if name else default


def _personality(row: PersonalityRow) -> Personality:
    return Personality(
        id=row.id,
        name=row.name,
        description=row.description,
        language=row.language,
        prompt=row.prompt,
        greeting=row.greeting,
        voice=row.voice_id,
        patience=row.patience,
    )
