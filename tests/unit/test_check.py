"""Tests that run beside others: waited for, shown whole where one fails, and ended with the run."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """`tools/check.py`, its folder for logs being a temporary one."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    loaded = importlib.import_module("check")
    monkeypatch.setattr(loaded, "LOGS", tmp_path / "logs")
    yield loaded
    for name in ("check", "audit", "page", "steps"):
        sys.modules.pop(name, None)


def one_test(folder: Path, body: str) -> str:
    """A file with one test."""
    file = folder / "test_some.py"
    file.write_text(f"import pathlib, time\n\n\ndef test_some():\n    {body}\n")
    return str(file)


@pytest.mark.parametrize(("body", "status", "shown"), [("pass", 0, "1 passed"), ("assert 6 * 9 == 42", 1, "6 * 9")])
def test_what_runs_beside_is_waited_for_and_a_failure_shown(
    check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, status: int, shown: str
) -> None:
    with check.beside("some", [one_test(tmp_path, body)]) as ended:
        pass
    assert ended() == status
    said = capsys.readouterr().out
    assert shown in said
    assert ("test session starts" in said) == bool(status), "a success is one line"


def test_what_runs_beside_ends_with_a_run_that_is_broken_off(check: ModuleType, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    file = one_test(tmp_path, f"pathlib.Path({str(begun)!r}).touch(); time.sleep(170)")
    with pytest.raises(KeyboardInterrupt), check.beside("some", [file]):
        deadline = time.monotonic() + 60
        while not begun.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        raise KeyboardInterrupt
    assert "KeyboardInterrupt" in (tmp_path / "logs" / "some.log").read_text()


def test_all_that_runs_beside_is_there(check: ModuleType) -> None:
    assert all((ROOT / path).is_file() for path in check.PATIENT)
