"""The database: one engine per process, reading sessions, and writing ones that never find it locked.

SQLite is written by several processes at once. A transaction that begins as a reader and writes later can
fail at once with "database is locked", whatever the timeout; so every writing transaction takes the write
lock as its first step (BEGIN IMMEDIATE) and waits there. Within a process, writers queue for a lock of
asyncio's, which is fair; between processes SQLite's own timeout waits, off the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, cast

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from library.address import parse, shown, sqlite_file
from library.connect import WRITES, connect, explaining
from library.models import Base
from library.upgrade import ensure_current
from settings import Settings


class Database:
    """The project's database, open and up to date."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.engine = connect(url)
        self.sqlite = sqlite_file(url) is not None
        self._read = async_sessionmaker(self.engine, expire_on_commit=False, autoflush=False)
        self._write = async_sessionmaker(self.engine.execution_options(**{WRITES: True}), expire_on_commit=False)
        self._writers = asyncio.Lock()

    @classmethod
    async def open(cls, settings: Settings) -> Database:
        """Open the database of the settings; the first process to come makes or migrates its tables.

        Safe to call from many processes at once. Makes the data folder if there is none.

        Raises:
            DatabaseError: It can't be reached, is damaged, or is newer than this program; the message names the fix.
        """
        url = parse(settings.database_url)
        await ensure_current(url)
        return cls(url)

    @property
    def place(self) -> str:
        """Where the database is, for people, without a password."""
        return shown(self.url)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session for reading, which sees one consistent state; use `transaction` to write.

        Raises:
            DatabaseError: The database failed.
        """
        with explaining(self.url):
            async with self._read() as session:
                yield session
                if session.new or session.dirty or session.deleted:
                    raise RuntimeError("a reading session was given changes: write in Database.transaction()")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session for writing: committed at the end, rolled back if the block raises. Keep it short.

        Raises:
            DatabaseError: The database failed; nothing was written.
        """
        turn = self._writers if self.sqlite else nullcontext()
        with explaining(self.url):
            async with turn, self._write() as session, session.begin():
                yield session

    def upsert(self, table: type[Base], key: str, values: dict[str, Any], *, changes: dict[str, Any]) -> Insert:
        """An insert that, where a row with this key exists, changes that row instead.

        Args:
            table: The mapped class.
            key: Name of the primary key's column.
            values: The new row, by column names.
            changes: What to set on a row that exists, by column names.
        """
        target = cast(Table, table.__table__)
        if self.sqlite:
            return sqlite.insert(target).values(values).on_conflict_do_update(index_elements=[key], set_=changes)
        return postgresql.insert(target).values(values).on_conflict_do_update(index_elements=[key], set_=changes)

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        await self.engine.dispose()
