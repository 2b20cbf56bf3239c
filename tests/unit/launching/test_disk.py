"""Room on the disk: before the start, and while the parts run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from launching import disk
from tests.virtual_clock import virtual_time


def test_a_folder_need_not_be_there_yet(tmp_path: Path) -> None:
    assert disk.unwritable(tmp_path / "data" / "deep") is None
    assert disk.free(tmp_path / "data") > 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    line = disk.unwritable(tmp_path / "data")
    assert line is not None and "set DATA_DIR" in line


def test_a_folder_that_takes_no_files_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", refuse)
    line = disk.unwritable(tmp_path)
    assert line is not None and "Read-only file system" in line


def test_a_full_disk_is_no_reason_to_start_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(dir: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", full)
    assert disk.unwritable(tmp_path) is None


@virtual_time
async def test_little_room_is_told_when_it_comes_and_when_it_goes() -> None:
    patch = pytest.MonkeyPatch()
    room, told = [disk.LITTLE * 10], list[str]()
    patch.setattr(disk, "free", lambda folder: room[0])
    watching = asyncio.create_task(disk.watch(Path("data"), told.append))
    try:
        for left in (disk.LITTLE * 10, 5 * 1024**2, 4 * 1024**2, disk.LITTLE * 2, disk.LITTLE * 2):
            room[0] = left
            await asyncio.sleep(disk.LOOK_EVERY)
    finally:
        watching.cancel()
        patch.undo()
    first, second = told
    assert first.startswith("WARNING: disk: 5 MB free") and "Make room" in first
    assert second.startswith("disk: enough room again")
