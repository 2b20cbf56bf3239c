"""What the parts write: merged on the terminal with a coloured name each, or a log file each; and what we say."""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
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


_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.?[\w-]*")


def without_tokens(text: str) -> str:
    """A part's line without room tokens, in whole or in part: livekit-server writes out those that it refuses."""
    return _TOKEN.sub("(token)", text)


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
        _print(self._stream, self._heads[name] + without_tokens(text))

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
        self._unkept: set[str] = set()
        """Logs that can't be written."""
        for name in self._logs:
            self._look_after(name)

    def say(self, text: str) -> None:
        """See `Output`."""
        _print(self._stream, text)

    def line(self, name: str, text: str) -> None:
        """See `Output`."""
        self._logs[name].write(without_tokens(text))
        self._look_after(name)

    def last(self, name: str) -> list[str]:
        """See `Output`."""
        log = self._logs[name]
        where = f"    (not kept: {log.trouble})" if log.trouble else f"    (all of it: {log.path})"
        return [*(f"    {text}" for text in log.last), where]

    def close(self) -> None:
        """See `Output`."""
        for log in self._logs.values():
            log.close()

    def _look_after(self, name: str) -> None:
        """Say once that logs aren't kept any longer, and once that all of them are again."""
        trouble, known = self._logs[name].trouble, bool(self._unkept)
        (self._unkept.add if trouble else self._unkept.discard)(name)
        if trouble and not known:
            self.say(f"WARNING: logs can't be written ({trouble}); everything else goes on")
        elif known and not self._unkept:
            self.say("Logs are written again")


class _LogFile:
    """One log file that is put aside when it has grown large.

    Where it can't be written, that costs lines of the log and nothing else: the parts go on, and so do we.

    Attributes:
        last: Its last lines, written or not.
        trouble: Why the last line could not be written; empty where it could.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self.trouble = ""
        self._size = 0
        self._file: IO[bytes] | None = None
        self._try(self._begin)

    def write(self, text: str) -> None:
        self.last.append(text)
        self._try(lambda: self._write(f"{text}\n".encode()))

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self.trouble = f"{error.filename or self.path}: {error.strerror}"
        else:
            self.trouble = ""

    def _write(self, line: bytes) -> None:
        if self._size > LARGEST_FILE:
            self.close()
            self._begin()
        if self._file is None:
            self._file = self._open()
        self._size += self._file.write(line)

    def _begin(self) -> None:
        """Put earlier files aside and begin a new one."""
        self._size = 0
        for number in range(KEPT_FILES, 0, -1):
            older = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            with contextlib.suppress(FileNotFoundError):
                older.replace(self.path.with_name(f"{self.path.name}.{number}"))
        self._file = self._open()

    def _open(self) -> IO[bytes]:
        """The file, readable by the owner only."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb", buffering=0)


def _print(stream: TextIO, text: str) -> None:
    """Write a line, and go on where it can't be: a closed pipe, or a file on a full disk, must not end the parts."""
    with contextlib.suppress(OSError):
        stream.write(f"{text}\n")
        stream.flush()
