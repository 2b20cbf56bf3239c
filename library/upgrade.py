"""Bringing a database up to date, by one process at a time, off the event loop.

A database that is current costs one query. Otherwise the migrations run on an event loop of a thread's
own, under a lock: a file beside an SQLite database, an advisory lock of PostgreSQL. Who waited for the
lock looks again before doing anything.
"""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from library.address import shown, sqlite_file
from library.connect import WRITES, connect, explaining
from library.errors import DatabaseError
from library.migrations import HEAD, REVISIONS

ADVISORY_LOCK = 0x766F6963  # "voic": any number that all our processes agree on
PATIENCE = 20.0
"""Seconds to wait for another program that writes; nobody is talking yet."""
WAL_PATIENCE = 10.0
"""Seconds to wait for readers before giving up on switching SQLite to its write-ahead log."""


async def ensure_current(url: URL) -> None:
    """Make or migrate the tables if they aren't current.

    Raises:
        DatabaseError: The database can't be reached, is damaged, or is newer than this program.
    """
    file = sqlite_file(url)
    if file is None or (file.exists() and file.stat().st_size):
        with explaining(url):
            try:
                if await _is_current(url):
                    return
            except OperationalError as error:
                # an SQLite file that another process is just making; under the lock we look again
                if file is None or "is locked" not in str(error):
                    raise
    await asyncio.to_thread(_upgrade, url)


async def revision(url: URL) -> str | None:
    """The revision of the database as it stands, None where it holds no tables of ours; changes nothing.

    Raises:
        DatabaseError: The database can't be reached, or is damaged.
    """
    engine = connect(url, pooled=False)
    try:
        with explaining(url):
            async with engine.connect() as connection:
                return await connection.run_sync(_recorded)
    finally:
        await engine.dispose()


async def _is_current(url: URL) -> bool:
    engine = connect(url, pooled=False)
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(_recorded)
            refuse_newer(found, url)
            if sqlite_file(url) is not None:
                mode = (await connection.execute(text("PRAGMA journal_mode"))).scalar()
                return found == HEAD and mode == "wal"
            return found == HEAD
    finally:
        await engine.dispose()


def _recorded(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def refuse_newer(found: str | None, url: URL) -> None:
    """Raise where a database has a revision this program doesn't know.

    Raises:
        DatabaseError: It was made by a newer program.
    """
    if found is not None and found not in REVISIONS:
        raise DatabaseError(
            f"the database {shown(url)} was made by a newer Voice Node (revision {found}, this one knows {HEAD}): "
            "update this program, or point DATABASE_URL at another database"
        )


def _upgrade(url: URL) -> None:
    """Runs in a thread."""
    with explaining(url):
        file = sqlite_file(url)
        if file is None:
            asyncio.run(_migrate(url))
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.with_name(file.name + ".lock")):
            asyncio.run(_migrate(url))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # freed with the file, also when the process dies
        yield


async def _migrate(url: URL) -> None:
    engine = connect(url, pooled=False, busy_timeout=PATIENCE)
    try:
        if sqlite_file(url) is not None:
            async with engine.connect() as connection:
                await connection.run_sync(_use_wal)
        async with engine.execution_options(**{WRITES: True}).begin() as connection:
            if sqlite_file(url) is None:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            found = await connection.run_sync(_recorded)
            refuse_newer(found, url)
            if found != HEAD:
                await connection.run_sync(_run_migrations, url)
    finally:
        await engine.dispose()


def _use_wal(connection: Connection) -> None:
    """Switch SQLite to its write-ahead log, which the file remembers; a reader in the way is waited for."""
    cursor = connection.connection.cursor()  # below SQLAlchemy: the switch can't happen within a transaction
    give_up = time.monotonic() + WAL_PATIENCE
    try:
        while True:
            try:
                cursor.execute("PRAGMA journal_mode=WAL")
                return
            except Exception as error:
                if "is locked" not in str(error) or time.monotonic() > give_up:
                    raise
                time.sleep(0.05)
    finally:
        cursor.close()


def _run_migrations(connection: Connection, url: URL) -> None:
    # loaded here: a database that is current never needs it, and it takes 0.3 s
    from alembic import command
    from alembic.config import Config

    if _recorded(connection) is None and (tables := inspect(connection).get_table_names()):
        raise DatabaseError(
            f"the database {shown(url)} holds tables of another program ({tables[0]}): point DATABASE_URL elsewhere"
        )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
