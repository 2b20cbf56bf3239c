"""Room on the disk: what is too little to start with, and a line when it runs out while the parts run."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

LITTLE = 200 * 1024**2
"""Bytes of free disk below which a warning is due: conversations, logs and voices are written all the time."""

LOOK_EVERY = 30.0


def standing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return there


def free(folder: Path) -> int:
    """Bytes that may still be written in a folder, which need not be there yet."""
    return shutil.disk_usage(standing(folder)).free


def megabytes(size: int) -> str:
    """A size in words."""
    return f"{size / 1024**3:.1f} GB" if size >= 1024**3 else f"{size / 1024**2:.0f} MB"


def unwritable(folder: Path) -> str | None:
    """Why nothing can be kept in a folder, with what to do, or None where something can; a full disk is no reason."""
    there = standing(folder)
    if not there.is_dir():
        return f"data folder {folder.absolute()}: {there} is no folder; set DATA_DIR to one"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"data folder {folder.absolute()} can't be written: let this user write there, or set DATA_DIR"
    try:
        if there == folder.absolute():
            with tempfile.TemporaryFile(dir=there):
                pass
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return f"data folder {folder.absolute()} can't be written ({error.strerror}): mend it, or set DATA_DIR"
    return None


def scarce(folder: Path) -> str | None:
    """A line where there is little room left, else None."""
    try:
        left = free(folder)
    except OSError as error:
        return f"disk: {folder.absolute()} can't be looked at ({error.strerror})"
    if left >= LITTLE:
        return None
    return (
        f"disk: {megabytes(left)} free for {folder.absolute()}: people can talk on, but what they say may not be kept."
        " Make room."
    )


async def watch(folder: Path, tell: Callable[[str], None], every: float = LOOK_EVERY) -> None:
    """Tell of little room when it comes, and when there is enough again; until cancelled."""
    told = False
    while True:
        line = scarce(folder)
        if line and not told:
            tell(f"WARNING: {line}")
        elif told and not line:
            tell(f"disk: enough room again for {folder}")
        told = bool(line)
        await asyncio.sleep(every)
