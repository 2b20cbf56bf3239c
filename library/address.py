"""Where the database is: reading DATABASE_URL, and telling people in one line what is wrong with it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from library.errors import DatabaseError

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}

FORMS = "sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/NAME"


def parse(address: str) -> URL:
    """The database's address with the asynchronous driver for it.

    Raises:
        DatabaseError: The address isn't one, names another kind of database, or its driver isn't installed.
    """
    try:
        url = make_url(address)
    except ArgumentError:
        # the address itself may hold a password, so it isn't repeated
        raise DatabaseError(f"DATABASE_URL is not a database address: write {FORMS}") from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise DatabaseError(f"DATABASE_URL asks for {url.drivername}, which is not supported: write {FORMS}")
    url = url.set(drivername=driver)
    if driver.startswith("sqlite"):
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise DatabaseError("DATABASE_URL names no file, and several processes share the database: write " + FORMS)
    elif importlib.util.find_spec("asyncpg") is None:
        raise DatabaseError("PostgreSQL needs the driver asyncpg: install the extra 'postgres' (pip install asyncpg)")
    return url


def sqlite_file(url: URL) -> Path | None:
    """The file of an SQLite database, absolute; None for another database."""
    if not url.drivername.startswith("sqlite"):
        return None
    return Path(url.database or "").absolute()


def shown(url: URL) -> str:
    """The address for people, without its password."""
    file = sqlite_file(url)
    return str(file) if file else url.render_as_string(hide_password=True)


def explained(error: BaseException, url: URL) -> DatabaseError:
    """What a driver's error means for the person who runs this, in one line."""
    cause = getattr(error, "orig", None) or error
    said = " ".join(str(cause).split()) or type(cause).__name__
    place = shown(url)
    file = sqlite_file(url)
    if file is None:
        return DatabaseError(f"PostgreSQL at {place} fails ({said}): check that it runs and that DATABASE_URL is right")
    for sign, fix in _SQLITE_SIGNS.items():
        if sign in said:
            return DatabaseError(f"{place}: {said}: {fix}")
    return DatabaseError(f"the database {place} fails: {said}")


_SQLITE_SIGNS = {
    "not a database": "this file is no SQLite database; move it away, or point DATABASE_URL elsewhere",
    "malformed": "the file is damaged; restore a backup, or move it away to start anew",
    "unable to open": "make the file and its folder readable and writable for this user",
    "readonly": "make the file and its folder writable for this user",
    "is locked": "another program keeps the database locked; close it",
    "disk is full": "free space on the disk",
    "disk I/O error": "check the disk and the folder's file system (network file systems can't hold SQLite)",
}
