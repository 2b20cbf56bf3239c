"""The database from the command line: `python -m library migrate`, `python -m library check`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from library import Library
from library.address import parse, shown, sqlite_file
from library.errors import LibraryError
from library.migrations import HEAD
from library.shipped import read
from library.upgrade import ensure_current, refuse_newer, revision
from settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 where all is well, 1 where something needs a person, which stderr names in one line."""
    parser = argparse.ArgumentParser(prog="python -m library", description="The database of Voice Node.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("migrate", help="make or update the tables, as every part does at its start")
    commands.add_parser("check", help="say whether the database and the personality files can be used")
    command = parser.parse_args(arguments).command
    logging.basicConfig(level=logging.ERROR)  # what is wrong is printed below
    try:
        return asyncio.run({"migrate": _migrate, "check": _check}[command](Settings()))
    except LibraryError as error:
        print(error, file=sys.stderr)
        return 1


async def _migrate(settings: Settings) -> int:
    url = parse(settings.database_url)
    await ensure_current(url)
    print(f"database {shown(url)}: up to date (revision {HEAD})")
    return 0


async def _check(settings: Settings) -> int:
    url = parse(settings.database_url)
    file = sqlite_file(url)
    found = await revision(url) if file is None or file.exists() else None
    refuse_newer(found, url)
    if found != HEAD:
        state = f"revision {found}, will be updated" if found else "not there yet, will be made"
        files = await asyncio.to_thread(read, settings.storage.personalities_dir)
        print(f"database {shown(url)}: {state} at the next start")
        print(f"personality files: {', '.join(files.personalities) or 'none'}")
        problems = files.problems
    else:
        library = await Library.open(settings)
        try:
            print(f"database {shown(url)}: up to date (revision {HEAD})")
            print(f"personalities: {', '.join(one.id for one in await library.personalities.all())}")
            problems = library.problems
        finally:
            await library.aclose()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
