"""The database: one engine per process, reading sessions, and writing ones that never find it locked.

SQLite is written by several processes at once. A transaction that begins as a reader and writes later can
fail at once with "database is locked", whatever the timeout; so every writing transaction takes the write
lock as its first step (BEGIN IMMEDIATE) and waits there. Within a process, writers queue for a lock of
asyncio's, which is fair; between processes SQLite's own timeout waits, off the event loop, again and again until
the writer's patience is over.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, cast

from sqlalchemy import ColumnElement, Double, Insert, Table, delete, func, insert, literal
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from library.address import explained, parse, shown, sqlite_file
from library.condition import Condition
from library.connect import WRITES, connect, explaining
from library.errors import DatabaseError
from library.models import Base, HolderTable
from library.upgrade import ensure_current
from settings import Settings

PATIENCE = 3.0
"""Seconds that a write waits for the others, and a person with it; their transactions take a few milliseconds."""


class Database:
    """The project's database, open and up to date.

    Attributes:
        condition: Whether it works.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.condition = Condition(shown(url))
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
        with self._noting(), explaining(self.url):
            async with self._read() as session:
                yield session
                if session.new or session.dirty or session.deleted:
                    raise RuntimeError("a reading session was given changes: write in Database.transaction()")

    @asynccontextmanager
    async def transaction(self, patience: float = PATIENCE) -> AsyncIterator[AsyncSession]:
        """A session for writing: committed at the end, rolled back if the block raises. Keep it short.

        Args:
            patience: Seconds to wait for others that write.

        Raises:
            DatabaseError: The database failed, or is being written by others all the time; nothing was written.
        """
        with self._noting(), explaining(self.url):
            if self.sqlite:
                deadline = asyncio.get_running_loop().time() + patience
                async with self._turn(deadline), self._write() as session, session.begin():
                    await self._locked(session, deadline)
                    yield session
            else:
                async with self._write() as session, session.begin():
                    yield session
        self.condition.wrote()

    async def trouble(self) -> str:
        """What keeps it from being written, empty where nothing does; tries where it failed lately."""
        if self.condition.reason:
            probe = f"probe-{uuid.uuid4().hex}"
            row = {"id": probe, "kind": "probe", "held": 0, "limit": 0, "at": self.moment(None)}
            with suppress(DatabaseError):
                async with self.transaction(patience=0.0) as session:
                    await session.execute(insert(HolderTable).values(row))
                    await session.execute(delete(HolderTable).where(HolderTable.id == probe))
        return self.condition.reason

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            self.condition.failed(error)
            raise

    @asynccontextmanager
    async def _turn(self, deadline: float) -> AsyncIterator[None]:
        """Wait for this process's other writers."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._writers.acquire()
        except TimeoutError:
            raise explained(TimeoutError("database is locked"), self.url) from None
        try:
            yield
        finally:
            self._writers.release()

    async def _locked(self, session: AsyncSession, deadline: float) -> None:
        """Take the write lock. It is waited for in short pieces, so that whoever waits can be called off."""
        while True:
            try:
                await session.connection()
                return
            except OperationalError as error:
                # this is BEGIN failing: the transaction is as empty as before, and the connection as good
                if "is locked" not in str(error) or asyncio.get_running_loop().time() >= deadline:
                    raise

    def moment(self, now: float | None) -> ColumnElement[float]:
        """The present in unix seconds, as a value of a statement: `now` where given, else by the clock all share.

        PostgreSQL's clients are several machines, whose clocks differ by more than a lease lasts: its own clock tells.
        An SQLite file is one machine's, whose clock all its processes share.
        """
        if now is None and not self.sqlite:
            return sql_cast(func.extract("epoch", func.clock_timestamp()), Double)
        return literal(time.time() if now is None else now, Double)

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
