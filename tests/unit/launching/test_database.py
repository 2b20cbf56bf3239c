"""Whether the launcher has to see to the database before the parts do."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from launching.database import has_tables, migrate
from settings import GROUPS, Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (name.upper() for group in GROUPS for name in group.model_fields):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def test_a_missing_database_is_made() -> None:
    assert not has_tables(Settings())
    assert asyncio.run(migrate(os.environ)) is None
    assert has_tables(Settings())


def test_a_file_that_is_no_database_is_a_problem_in_words(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "voice-node.db").write_text("this is no database, only a text of some length")
    assert not has_tables(Settings())
    problem = asyncio.run(migrate(os.environ))
    assert problem is not None and "voice-node.db" in problem


def test_another_server_is_always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://someone@127.0.0.1/some")
    assert not has_tables(Settings())
