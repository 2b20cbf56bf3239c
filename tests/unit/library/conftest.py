"""Databases for the library's tests: SQLite in a folder of the test's own, and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from library import Library
from settings import Settings
from tests.postgres import Postgres, running_postgres

MakeSettings = Callable[..., Settings]


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds that another process or task brings about."""
    async with asyncio.timeout(60):
        while True:
            if await check():
                return
            await asyncio.sleep(0.05)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def make_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    """Settings for a database in this test's folder, unless told otherwise by variables."""

    def make(**variables: str) -> Settings:
        file = tmp_path / "data" / "voice-node.db"
        defaults = {"DATA_DIR": str(tmp_path / "data"), "DATABASE_URL": f"sqlite+aiosqlite:///{file}"}
        for name, value in (defaults | variables).items():
            monkeypatch.setenv(name, value)
        return Settings()

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address where no database is yet, of either kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'data' / 'voice-node.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
async def library(database_url: str, make_settings: MakeSettings) -> AsyncIterator[Library]:
    """A library with the shipped personalities, on either kind of database."""
    opened = await Library.open(make_settings(DATABASE_URL=database_url))
    yield opened
    await opened.aclose()
