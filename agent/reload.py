"""`dev`: runs the worker as a process of its own and starts it anew whenever our Python files change."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from pathlib import Path

from watchfiles import Change, PythonFilter, awatch

from services.logs import setup_logging

logger = logging.getLogger("voice_node.agent")

ROOT = Path(__file__).resolve().parent.parent
WATCHED = ("agent", "conversation", "engines", "library", "plugins", "services", "settings", "personalities")
STOPS_WITHIN = 20.0
"""Seconds a worker gets to store what was said before it is killed."""


class CodeFilter(PythonFilter):
    """Python files, personalities and the settings file."""

    def __init__(self) -> None:
        super().__init__(extra_extensions=(".yaml",))


def watched(root: Path = ROOT) -> list[Path]:
    """The folders whose changes restart the worker."""
    return [root / name for name in WATCHED if (root / name).is_dir()]


async def run_reloading(command: Sequence[str], folders: Sequence[Path] | None = None) -> int:
    """Run a command until SIGINT or SIGTERM, anew after every change; gives the exit code 0.

    A command that ended by itself, as one with a typo does, is run again at the next change.

    Args:
        command: Program and arguments.
        folders: What to watch; our packages where None.
    """
    setup_logging("info")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async for changes in awatch(*(folders or watched()), watch_filter=CodeFilter(), stop_event=stop):
            logger.info("code changed, starting anew", extra={"files": _names(changes)})
            await _end(process)
            process = await asyncio.create_subprocess_exec(*command)
    finally:
        await _end(process)
    return 0


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOPS_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _names(changes: set[tuple[Change, str]]) -> str:
    return ", ".join(sorted({Path(path).name for _, path in changes}))
