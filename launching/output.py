"""What the parts write: merged on the terminal with a coloured name each, or a log file each; and what we say."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Protocol, TextIO

COLOURS = (36, 33, 32, 35, 34, 96, 93)
"""ANSI colours of the parts, in their order."""

KEPT_FILES = 3
LARGEST_FILE = 10 * 1024 * 1024
"""Bytes after which a log file is put aside."""

LAST_LINES = 8
"""Lines of a part that are shown when it dies."""


class Output(Protocol):
    """Where the launcher's and the parts' lines go."""

    def say(self, text: str) -> None:
        """A line of the launcher's own, for the person at the terminal."""

    def line(self, name: str, text: str) -> None:
        """A line that the part `name` wrote."""

    def last(self, name: str) -> list[str]:
        """What has to be shown of the part's last lines when it dies: nothing where they were just seen."""

    def close(self) -> None:
        """No more lines will come."""


def coloured(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Whether colours are wanted: on a terminal only, and never where NO_COLOR is set."""
    return stream.isatty() and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


class Combined:
    """All lines on one stream, each after the name of the part that wrote it."""

    def __init__(self, stream: TextIO, names: Iterable[str], *, colour: bool) -> None:
        self._stream = stream
        all_names = (*names, "launcher")
        width = max(map(len, all_names))
        self._heads = {name: f"{name:<{width}} | " for name in all_names}
        if colour:
            for name, code in zip(all_names[:-1], COLOURS, strict=False):
                self._heads[name] = f"\033[{code}m{self._heads[name]}\033[0m"

    def say(self, text: str) -> None:
        """See `Output`."""
        for line in text.splitlines() or [""]:
            self.line("launcher", line)

    def line(self, name: str, text: str) -> None:
        """See `Output`."""
        _print(self._stream, self._heads[name] + text)

    def last(self, name: str) -> list[str]:
        """See `Output`; its lines stand on the stream already."""
        return []

    def close(self) -> None:
        """See `Output`."""


class LogFiles:
    """A log file per part, earlier ones kept as NAME.log.1 and so on; only our own lines on the terminal."""

    def __init__(self, stream: TextIO, folder: Path, names: Iterable[str]) -> None:
        self._stream = stream
        self._logs = {name: _LogFile(folder / f"{name}.log") for name in names}

    def say(self, text: str) -> None:
        """See `Output`."""
        _print(self._stream, text)

    def line(self, name: str, text: str) -> None:
        """See `Output`."""
        self._logs[name].write(text)

    def last(self, name: str) -> list[str]:
        """See `Output`."""
        log = self._logs[name]
        return [*(f"    {text}" for text in log.last), f"    (all of it: {log.path})"]

    def close(self) -> None:
        """See `Output`."""
        for log in self._logs.values():
            log.close()


class _LogFile:
    """One log file that is put aside when it has grown large."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._size = 0
        self._file = self._fresh()

    def write(self, text: str) -> None:
        self.last.append(text)
        with contextlib.suppress(OSError):  # a full disk costs lines of the log, not the conversations
            if self._size > LARGEST_FILE:
                self._file.close()
                self._file = self._fresh()
            self._size += self._file.write(f"{text}\n".encode())

    def close(self) -> None:
        self._file.close()

    def _fresh(self) -> IO[bytes]:
        """Put earlier files aside and begin a new one, readable by the owner only."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(KEPT_FILES, 0, -1):
            older = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            with contextlib.suppress(FileNotFoundError):
                older.replace(self.path.with_name(f"{self.path.name}.{number}"))
        fresh = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb", buffering=0)
        self._size = 0
        return fresh


def _print(stream: TextIO, text: str) -> None:
    """Write a line, and go on where nobody reads any more (a closed pipe must not end the parts)."""
    with contextlib.suppress(BrokenPipeError):
        stream.write(f"{text}\n")
        stream.flush()
