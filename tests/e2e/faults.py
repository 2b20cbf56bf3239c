"""Killing and freezing parts of a running stack, and looking at what is left of a conversation in its database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.stack import Stack, answer
from tests.e2e.waiting import PATIENCE

COMMANDS = {
    "livekit": "/livekit-server --config=",
    "stt": " -m services stt ",
    "chat": " -m services chat ",
    "tts": " -m services tts ",
    "server": " -m compat_ws ",
    "agent": "/agent/main.py start ",
    "page": " -m token_server ",
}
"""What stands in a part's command line, and in no other's."""

THROUGH_SERVICES = {"STT": "service,pocketsphinx", "CHAT": "service,companion", "TTS": "service,espeak"}
"""Settings by which conversations ask the services, and the embedded engines where those fail."""

FROZEN_FOR = 5.0
"""Seconds that a frozen process stands still."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a conversation as it is stored."""

    role: str
    content: str
    interrupted: bool


def pids(stack: Stack, part: str) -> list[int]:
    """Process ids of a part: one while all is well."""
    return [pid for pid, command in stack.processes().items() if COMMANDS[part] in command]


def database(stack: Stack) -> Path:
    """The stack's SQLite file."""
    return stack.folder / "data" / "voice-node.db"


def query(stack: Stack, sql: str, *values: object) -> list[tuple[object, ...]]:
    """What the stack's database answers; read-only."""
    address = f"file:{database(stack)}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=30)) as connection:
        return connection.execute(sql, values).fetchall()


def history(stack: Stack, session: str) -> list[Message]:
    """All that is stored of a conversation, in order."""
    rows = query(
        stack, "select role, content, interrupted from messages where conversation_id = ? order by id", session
    )
    return [Message(str(role), str(content), bool(interrupted)) for role, content, interrupted in rows]


def holder(stack: Stack, session: str) -> int:
    """Process id of whoever holds a conversation."""
    ((name,),) = query(stack, "select holder from leases where session_id = ?", session)
    return int(str(name).split("-")[-2])


@contextlib.contextmanager
def locked(stack: Stack) -> Iterator[None]:
    """Hold the database's write lock."""
    other = sqlite3.connect(database(stack), isolation_level=None, timeout=30)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


def struck(stack: Stack, kind: str, pid: int) -> Fault:
    """Kill or freeze a process that isn't writing at that moment: nobody else is while we may.

    One that stands still in the middle of a write keeps the database locked, and so nobody can take its conversations
    over: what happens then is test_database_away.py's.
    """
    with locked(stack):
        return Fault(kind, pid)


class Fault:
    """What happens to a process; `over` once it has happened and, where it stood still, goes on."""

    def __init__(self, kind: str, pid: int) -> None:
        self.pid = pid
        self._thawed = asyncio.Event()
        if kind == "killed":
            os.kill(pid, signal.SIGKILL)
            self._thawed.set()
        else:
            os.kill(pid, signal.SIGSTOP)
            asyncio.get_running_loop().call_later(FROZEN_FOR, self._thaw)

    async def over(self) -> None:
        """Return once a killed process is dead and a frozen one goes on."""
        await self._thawed.wait()

    def _thaw(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # somebody has given it up and ended it
            os.kill(self.pid, signal.SIGCONT)
        self._thawed.set()


async def healed(stack: Stack) -> None:
    """Return once every part that the stack started is there, once, and well."""
    parts = stack.services or tuple(COMMANDS)
    pages = [f"{stack.page}/api/health"] if "page" in parts else [f"{stack.service(kind)}/health" for kind in parts]

    def well() -> bool:
        return all(len(pids(stack, part)) == 1 for part in parts) and all(answer(page)[0] == 200 for page in pages)

    await eventually(well, "all parts well again")


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def eventually(true: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Return once `true()` is; it may read files and processes.

    Raises:
        AssertionError: It did not become true in `patience` seconds.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while not await asyncio.to_thread(true):
        assert asyncio.get_running_loop().time() < deadline, f"not within {patience:.0f} s: {what}"
        await asyncio.sleep(0.1)
