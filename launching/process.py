"""One part's process: in a group of its own, its output read line by line, ended together with everything it started.

Three things see to it that nothing stays behind: the launcher ends the whole group of every part; on Linux the kernel
signals a part when the launcher dies; and the guardian, a process of its own, ends the groups when the launcher is
killed without a chance to do so.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from launching.guardian import signalled
from launching.parts import ROOT, Part

LONGEST_LINE = 64 * 1024
"""Bytes after which a line without an end is passed on as it is."""

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None  # looked up before any fork


class Guardian:
    """The launcher's side of the guardian process; see `guardian.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Guardian:
        """Start the guardian, away from the terminal's signals."""
        program = Path(__file__).with_name("guardian.py")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(program),
            stdin=asyncio.subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        return cls(process)

    def watch(self, group: int) -> None:
        """End this process group if the launcher dies."""
        self._write(f"+{group}\n")

    def forget(self, group: int) -> None:
        """This process group has ended."""
        self._write(f"-{group}\n")

    async def aclose(self) -> None:
        """Let it go; it ends what it still watches."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # a killed guardian must not take the launcher with it
            self._process.stdin.write(line.encode("ascii"))


class Running:
    """A started part."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        output: asyncio.StreamReader,
        guardian: Guardian,
        on_line: Callable[[str], None],
    ) -> None:
        self._process = process
        self._output = output
        self._guardian = guardian
        self._on_line = on_line
        self._group = process.pid
        self._reader = asyncio.create_task(self._read(), name="read output")
        self._ended: asyncio.Task[int] = asyncio.create_task(self._end(), name="wait for the end")

    @classmethod
    async def start(
        cls, part: Part, env: Mapping[str, str], guardian: Guardian, on_line: Callable[[str], None]
    ) -> Running:
        """Start a part.

        Args:
            part: What to run.
            env: The environment it gets.
            guardian: Told of its process group.
            on_line: Called with every line it writes, without the line's end.

        Raises:
            OSError: Its program can't be started.
        """
        launcher = os.getpid()
        # A pipe of our own: asyncio's would hold back the part's end while a process it started keeps it open.
        reading, writing = os.pipe()
        try:
            output = await _reader(reading)
            process = await asyncio.create_subprocess_exec(
                *part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                env=env,
                cwd=ROOT,
                start_new_session=True,  # Ctrl-C in the terminal reaches the launcher alone
                preexec_fn=lambda: _die_with(launcher),
            )
        finally:
            os.close(writing)
        guardian.watch(process.pid)
        return cls(process, output, guardian, on_line)

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait until it has ended, and all that it started with it; its exit status."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace: float) -> bool:
        """End it: SIGTERM to the part, SIGKILL to its whole group after `grace` seconds.

        Returns:
            Whether it ended by itself.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            self.kill()
            await self.wait()
            return False
        return True

    def kill(self) -> None:
        """End the whole group at once."""
        signalled(self._group, signal.SIGKILL)

    async def _end(self) -> int:
        status = await self._process.wait()
        self.kill()  # whatever it started and left behind
        await self._reader
        self._guardian.forget(self._group)
        return status

    async def _read(self) -> None:
        """Pass its output on in lines, whatever its bytes."""
        rest = b""
        while block := await self._output.read(LONGEST_LINE):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self._on_line(_text(line))
            if len(rest) > LONGEST_LINE:
                self._on_line(_text(rest))
                rest = b""
        if rest:
            self._on_line(_text(rest))


async def _reader(pipe: int) -> asyncio.StreamReader:
    """What comes through the reading end of a pipe, which is closed at its end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0))
    return reader


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")


def _die_with(launcher: int) -> None:
    """In the child, before it becomes the part: have the kernel end it when the launcher dies (Linux)."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != launcher:  # it died in between
            os._exit(1)
