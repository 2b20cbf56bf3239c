"""Whether the launcher has to see to the database before the parts do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from launching.database import is_current, migrate, newest_revision
from library.migrations import HEAD
from settings import GROUPS, Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (name.upper() for group in GROUPS for name in group.model_fields):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def test_a_missing_database_is_made() -> None:
    assert not is_current(Settings())
    assert asyncio.run(migrate(os.environ)) is None
    assert is_current(Settings())


def test_a_file_that_is_no_database_is_a_problem_in_words(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "voice-node.db").write_text("this is no database, only a text of some length")
    assert not is_current(Settings())
    problem = asyncio.run(migrate(os.environ))
    assert problem is not None and "voice-node.db" in problem


def test_another_server_is_always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://someone@127.0.0.1/some")
    assert not is_current(Settings())


def test_a_database_of_another_version_is_looked_at_closer(tmp_path: Path) -> None:
    asyncio.run(migrate(os.environ))
    with closing(sqlite3.connect(tmp_path / "data" / "voice-node.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    assert not is_current(Settings())
    problem = asyncio.run(migrate(os.environ))
    assert problem is not None and "newer" in problem and "\n" not in problem


def test_the_newest_revision_is_the_one_the_library_works_with() -> None:
    assert newest_revision() == HEAD
