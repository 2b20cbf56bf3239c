"""Conversations outlive a database that is locked, full or away for a while, and their history is whole afterwards."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from conversation import history as history_module
from conversation.history import History
from library import Database, DatabaseError, Lease, LeaseHolder, Library
from library.holder import EXPIRY
from tests.postgres import Postgres

from .conftest import MakeSettings, eventually

LOCKED_FOR = 5.0


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold SQLite's write lock, as another program would."""
    other = sqlite3.connect(file, isolation_level=None, timeout=5)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


@asynccontextmanager
async def holding(library: Library, session_id: str) -> AsyncIterator[tuple[LeaseHolder, Lease]]:
    holder = LeaseHolder(library, "agent", None)
    await holder.start()
    try:
        yield holder, await holder.claim(session_id, f"room {session_id}")
    finally:
        await holder.aclose()


@pytest.fixture
async def sqlite_library(make_settings: MakeSettings) -> AsyncIterator[Library]:
    opened = await Library.open(make_settings())
    yield opened
    await opened.aclose()


def file_of(library: Library) -> Path:
    return Path(str(library.database.url.database))


async def said(library: Library, session_id: str) -> list[str]:
    return [message.content for message in await library.conversations.messages(session_id)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING]


async def test_a_locked_database_costs_no_lease_and_no_message(
    sqlite_library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    async with holding(sqlite_library, "s") as (holder, lease):
        history = History(sqlite_library, "s", lease=lease)
        history.write("user", "before", 1.0, False)
        await eventually(lambda: stored(history))
        with locked(file_of(sqlite_library)):
            for number in range(5):
                history.write("user", f"meanwhile {number}", 2.0, False)
            await asyncio.sleep(LOCKED_FOR)

            async def troubled() -> bool:
                return "is locked" in holder.trouble

            await eventually(troubled)
            assert lease.held
            assert await said(sqlite_library, "s") == ["before"], "what is locked can be read"
            assert history.waiting == 5
            with pytest.raises(DatabaseError, match="close it"):
                await holder.claim("new", "room new")
        await eventually(lambda: stored(history))
        await eventually(lambda: well(holder))
        assert lease.held
        assert await said(sqlite_library, "s") == ["before", *(f"meanwhile {number}" for number in range(5))]
        await history.aclose()
    assert len(warnings(caplog)) == 1, warnings(caplog)


async def stored(history: History) -> bool:
    return history.waiting == 0


async def well(holder: LeaseHolder) -> bool:
    return not holder.trouble


async def test_who_waits_for_a_lock_is_let_in_when_it_is_free(sqlite_library: Library) -> None:
    async with holding(sqlite_library, "s") as (holder, _):
        with locked(file_of(sqlite_library)):
            claim = asyncio.create_task(holder.claim("new", "room new"))
            await asyncio.sleep(1.0)
            assert not claim.done()
        assert (await claim).held


async def test_what_is_said_while_the_disk_is_full_is_written_when_there_is_room(
    sqlite_library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite itself finds no page left, which is the error of a full disk."""
    database = sqlite_library.database
    async with holding(sqlite_library, "s") as (holder, lease):
        history = History(sqlite_library, "s", lease=lease)
        async with room(database, pages=0):
            long = "word " * 4000  # pages of its own
            for number in range(3):
                history.write("user", f"{number} {long}", 1.0, False)

            async def noticed() -> bool:
                return "is full" in database.condition.reason

            await eventually(noticed)
            assert "free space" in database.condition.reason
            await asyncio.sleep(2 * EXPIRY)
            assert lease.held
            assert await said(sqlite_library, "s") == []
        await eventually(lambda: stored(history))
        assert [one[0] for one in await said(sqlite_library, "s")] == ["0", "1", "2"]
        assert lease.held
        await eventually(lambda: well(holder))

        async def works() -> bool:
            return not await database.trouble()

        await eventually(works)
        await history.aclose()
    told = [line for line in warnings(caplog) if "full" in line]
    assert len(told) == 1 and "free space on the disk" in told[0], told


@asynccontextmanager
async def room(database: Database, pages: int) -> AsyncIterator[None]:
    """Let the file grow by so many pages only, on each of the connections, while the block runs."""

    async def limit(at_most: int) -> None:
        # on every connection of the pool, of which two are enough for a holder and a history
        async with database.engine.connect() as one, database.engine.connect() as two:
            for connection in (one, two):
                await connection.execute(text(f"PRAGMA max_page_count={at_most}"))

    async with database.session() as session:
        now = int((await session.execute(text("PRAGMA page_count"))).scalar_one())
    await limit(now + pages)
    try:
        yield
    finally:
        await limit(1_073_741_823)


async def test_a_restarted_postgresql_costs_no_lease_and_no_message(
    postgres: Postgres, make_settings: MakeSettings
) -> None:
    library = await Library.open(make_settings(DATABASE_URL=postgres.new_database()))
    async with holding(library, "s") as (holder, lease):
        history = History(library, "s", lease=lease)
        history.write("user", "before", 1.0, False)
        await eventually(lambda: stored(history))
        try:
            await asyncio.to_thread(postgres.stop)
            history.write("user", "meanwhile", 2.0, False)
            await asyncio.sleep(2 * EXPIRY)
            assert lease.held
            assert "check that it runs" in holder.trouble
        finally:
            await asyncio.to_thread(postgres.start)
        await eventually(lambda: stored(history))
        await eventually(lambda: well(holder))
        assert lease.held
        assert await said(library, "s") == ["before", "meanwhile"]
        assert [row.session_id for row in await library.leases.live()] == ["s"]
        await history.aclose()
    await library.aclose()


async def test_a_fenced_holder_writes_nothing_of_what_waited(sqlite_library: Library) -> None:
    lost: list[str] = []
    elsewhere = Library(Database(sqlite_library.database.url), "assistant")
    other = LeaseHolder(elsewhere, "compat", None)
    await other.start()
    async with holding(sqlite_library, "s") as (_, lease):
        history = History(sqlite_library, "s", lease=lease, on_lost=lambda: lost.append("s"))
        with locked(file_of(sqlite_library)):
            history.write("user", "mine", 1.0, False)
            taking = asyncio.create_task(other.claim("s", "socket"))
            await asyncio.sleep(0.5)
        theirs = await taking
        await asyncio.wait_for(lease.lost.wait(), 30)
        written = await said(sqlite_library, "s")
        await history.aclose()
        assert await said(sqlite_library, "s") == written, "nothing is written once the lease is lost"
        assert written in ([], ["mine"]), "either before the other's claim, or not at all"
        assert theirs.held
    await other.aclose()
    await elsewhere.aclose()


async def test_what_waits_is_bounded_and_what_was_given_up_is_told(
    sqlite_library: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(history_module, "WAITING", 3)
    monkeypatch.setattr(history_module, "LAST_TRIES", 0.2)
    async with holding(sqlite_library, "s") as (_, lease):
        history = History(sqlite_library, "s", lease=lease)
        with locked(file_of(sqlite_library)):
            for number in range(5):
                history.write("user", str(number), 1.0, False)
            assert history.waiting == 3
            await history.aclose()
    (told,) = [line for line in caplog.records if line.getMessage() == "messages could not be stored"]
    assert (told.session, told.messages) == ("s", 5)  # type: ignore[attr-defined]
    assert await said(sqlite_library, "s") == []
