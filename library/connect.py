"""Connections: how each kind of database is opened, and where its transactions begin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from engines.tally import tally
from library.address import explained, sqlite_file

BUSY_TIMEOUT = 0.5
"""Seconds for which SQLite itself waits for another program, holding a thread; who wants to write waits on after that
(library/database.py)."""

CONNECTED_WITHIN = 3.0
ANSWERED_WITHIN = 5.0
"""Seconds that PostgreSQL has to take a connection, and to carry out a statement; ours take milliseconds."""

WRITES = "voice_node_writes"
"""Execution option of connections whose transactions write."""


def connect(url: URL, *, pooled: bool = True, busy_timeout: float = BUSY_TIMEOUT) -> AsyncEngine:
    """An engine for this address that connects when first used.

    Args:
        url: The address, with its driver.
        pooled: Whether connections are kept, and their statements kept to `ANSWERED_WITHIN`; migrations take longer.
        busy_timeout: Seconds for which SQLite waits for another program.
    """
    pool: dict[str, Any] = {} if pooled else {"poolclass": NullPool}
    if sqlite_file(url) is None:
        limits = {"timeout": CONNECTED_WITHIN, "command_timeout": ANSWERED_WITHIN if pooled else None}
        # pre-ping: after a restart of PostgreSQL the pool's old connections are replaced without a failed write
        return create_async_engine(url, pool_pre_ping=pooled, connect_args=limits, **pool)
    engine = create_async_engine(url, connect_args={"timeout": busy_timeout}, **pool)

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA synchronous=NORMAL")  # with WAL: a power cut may lose the last moment, never the file
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def explaining(url: URL) -> Iterator[None]:
    """Turn what drivers raise into a `DatabaseError` that names the fix; broken rules of the tables pass unchanged."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeout, OSError) as error:
        tally("database_errors")
        raise explained(error, url) from error
