"""Personalities, voices, conversations and leases in a database, as the rest of the project is given them."""

from __future__ import annotations

import asyncio
import logging

from library import shipped
from library.conversations import Conversation, Conversations, StoredMessage
from library.database import Database
from library.errors import DatabaseError, LeaseLost, LibraryError, SessionIdError
from library.leases import HolderRow, Lease, LeaseHolder, LeaseRow, Leases
from library.personalities import Personalities, Personality
from library.text import check_session_id
from library.voices import Voices
from settings import Settings

__all__ = [
    "Conversation",
    "Conversations",
    "Database",
    "DatabaseError",
    "HolderRow",
    "Lease",
    "LeaseHolder",
    "LeaseLost",
    "LeaseRow",
    "Leases",
    "Library",
    "LibraryError",
    "Personalities",
    "Personality",
    "SessionIdError",
    "StoredMessage",
    "Voices",
    "check_session_id",
]

log = logging.getLogger("voice_node.library")


class Library:
    """All that is kept, over one database. One per process; made by `open`."""

    def __init__(self, database: Database, default_personality: str, problems: tuple[str, ...] = ()) -> None:
        self.database = database
        self.personalities = Personalities(database, default_personality)
        self.voices = Voices(database, default_personality)
        self.conversations = Conversations(database)
        self.leases = Leases(database)
        self.problems = problems
        """One line for each personality or voice file that could not be used."""

    @classmethod
    async def open(cls, settings: Settings) -> Library:
        """Open the database, bringing it up to date, and take in the shipped personalities and voices.

        Safe to call from many processes at once.

        Raises:
            DatabaseError: The database can't be reached, is damaged, or is newer than this program.
            LibraryError: The default personality doesn't exist.
        """
        files = await asyncio.to_thread(shipped.read, settings.storage.personalities_dir)
        database = await Database.open(settings)
        try:
            problems = files.problems + await shipped.refresh(database, files)
            for problem in problems:
                log.warning("personality file not used", extra={"problem": problem})
            library = cls(database, settings.conversations.default_personality, problems)
            await library.personalities.resolve(None)
        except BaseException:
            await database.aclose()
            raise
        return library

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        await self.database.aclose()
