"""The process that job processes are forked from: started first of all, so that it loads while the worker does.

A job process forked from it has every module and the voice activity model already, shared with all
others, and is there in hundredths of a second. Import this file before anything large.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal

PRELOADED = ("agent.preload", "livekit.agents.ipc._preload", "livekit.agents.ipc._preload_freeze")
"""Modules it imports, the last of which keeps the garbage collector off what was imported."""


def start() -> None:
    """Start it with this process's environment, which its jobs get: set variables before.

    Signals that reach a whole process group (Ctrl-C, a supervisor) are for the worker, which ends its
    jobs in good order: the fork server and its jobs ignore them.
    """
    # 244 MB of an end-of-turn model that no conversation asks; agent.preload loads the small one.
    os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "0")
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
