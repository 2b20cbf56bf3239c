"""A job's process before it has a job: which signals it heeds, which log lines it keeps, how it dies of a panic."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from types import ModuleType

from livekit.agents import JobProcess
from livekit.rtc import _ffi_client

from engines.tally import LOGGER as TALLY_LOGGER
from services.loop_watch import LoopWatch, StallPolicy
from settings import Settings

PANICKED, OVERDUE, ORPHANED, STALLED = 70, 71, 72, 73
"""Exit codes of a job whose native part has panicked, which didn't come to its end, whose worker is gone, whose event
loop stood still."""

CLOSES_WITHIN = 75.0
"""Seconds a job has to store what was said, for which History takes up to 60, and end; the framework waits for its
last task without limit."""
ENDS_WITHIN = 150.0
"""Seconds from a job's own decision to end; the framework gives the session 60 of them to close."""
STALLED_FOR = 20.0
"""Seconds after which a job whose event loop stands still ends; others have taken its conversation up long before."""
LAST_WORDS = 0.3
"""Seconds in which the log lines of a process that ends itself reach the worker."""
ORPHAN_GRACE = 5.0
"""Seconds a job has to end by itself once its worker is gone."""


def prepare(process: JobProcess) -> None:
    """Get an idle job process ready, before it has an event loop; agent.preload has imported everything by now."""
    # The worker ends its jobs in good order, also when a signal goes to a whole process group.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_on_panic()
    worker = getattr(sys.modules.get("agent.preload"), "WORKER", None)
    if worker is not None:
        threading.Thread(target=_end_with_worker, args=(worker,), name="worker watch", daemon=True).start()
    logging.getLogger("livekit").addFilter(says_something)
    # What happens here is counted in the worker, whatever the log shows.
    logging.getLogger(TALLY_LOGGER).setLevel(logging.INFO)
    process.userdata["settings"] = Settings()


def end_within(seconds: float, code: int = OVERDUE) -> None:
    """End this process after so many seconds, whatever still holds it then."""
    deadline = threading.Timer(seconds, os._exit, (code,))
    deadline.daemon = True
    deadline.start()


def watch_loop() -> None:
    """Watch this job's event loop, on which this is called, and end the process if it never goes on."""
    LoopWatch(StallPolicy(STALLED_FOR), _end_stalled).start()


def _end_stalled() -> None:
    time.sleep(LAST_WORDS)
    os._exit(STALLED)


def _end_with_worker(worker: int) -> None:
    """Follow the worker into its end: a job nobody supervises would hold its lease, and its place in a room."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(ProcessLookupError):
            # Readable once the process has ended, also while nobody has asked for its exit code.
            select.select([os.pidfd_open(worker)], [], [])
    else:
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(worker, 0)
                time.sleep(1.0)
    time.sleep(ORPHAN_GRACE)
    os._exit(ORPHANED)


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
