"""The database before anything starts: made or updated once, so that no part waits for another one doing it.

Every part brings the database up to date itself, under a lock. Here it is done beforehand where there is something to
be seen to: no database yet, one that can't be read, one of another version, or one that only its own server can tell
about. An SQLite file that is up to date is left to the parts, since looking closer would cost most of two seconds at
every start.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from launching.parts import ROOT
from settings import Settings


def is_current(settings: Settings) -> bool:
    """Whether the database is an SQLite file with the tables of this version."""
    scheme, _, path = settings.database_url.partition(":///")
    if not scheme.startswith("sqlite") or not Path(path).is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return False
    return found is not None and found[0] == newest_revision()


def newest_revision() -> str:
    """The revision this program works with, by the names of the migrations: loading them would cost a second."""
    names = (ROOT / "library" / "migrations" / "versions").glob("[0-9]*_*.py")
    return max(path.name.partition("_")[0] for path in names)


async def migrate(env: Mapping[str, str]) -> str | None:
    """Run `python -m library migrate`.

    Returns:
        None where the database is up to date; else what is wrong with it.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "library", "migrate"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=env,
        cwd=ROOT,
        start_new_session=True,
    )
    said, _ = await process.communicate()
    return said.decode(errors="replace").strip() if process.returncode else None
