"""A job's process before it has a job: which signals it heeds, which log lines it keeps, how it dies of a panic."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import ModuleType

from livekit.agents import JobProcess
from livekit.rtc import _ffi_client

from settings import Settings

PANICKED = 70
"""Exit code of a job whose native part has panicked."""


def prepare(process: JobProcess) -> None:
    """Get an idle job process ready, before it has an event loop; agent.preload has imported everything by now."""
    # The worker ends its jobs in good order, also when a signal goes to a whole process group.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_on_panic()
    logging.getLogger("livekit").addFilter(says_something)
    process.userdata["settings"] = Settings()


def says_something(record: logging.LogRecord) -> bool:
    """Whether a log line is worth keeping: a native warning about every microphone that ended by itself isn't."""
    return "drop unknown FFI handle" not in record.getMessage()


def end_on_panic() -> None:
    """Let a panic of LiveKit's native part end this process, whose lease another worker then takes up.

    The SDK sends its own process SIGTERM for that, which jobs ignore.
    """
    _ffi_client.os = _ObeyingOs("os")  # type: ignore[attr-defined]


class _ObeyingOs(ModuleType):
    """The module `os` with a `kill` that can't be ignored by its own process."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    @staticmethod
    def kill(pid: int, number: int) -> None:
        """As `os.kill`; this process ends at once."""
        if pid == os.getpid():
            sys.stderr.flush()
            os._exit(PANICKED)
        os.kill(pid, number)
