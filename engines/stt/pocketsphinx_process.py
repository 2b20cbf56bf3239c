"""A worker process of the embedded recognizer, seen from the event loop that uses it.

An utterance's socket is handed over even while the worker still loads; what is sent into it is decoded as soon as
it can be. A worker that dies is started again, more slowly each time it dies soon after; meanwhile it takes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from engines.stt.pocketsphinx_wire import LIVE, READY, RECORDED
from engines.types import EngineUnavailable

logger = logging.getLogger("voice_node.pocketsphinx")

_ROOT = Path(__file__).resolve().parent.parent.parent
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 30.0
_STABLE = 60.0
_PATIENCE = 5.0
"""Seconds a closed worker has to end by itself."""


class WorkerProcess:
    """One worker. Belongs to the event loop on which it was first used."""

    def __init__(self) -> None:
        self.holds: set[Callable[[], None]] = set()
        """What tells each of its utterances that the recognizer was closed."""
        self._control: socket.socket | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._closed = False
        self._deaths = 0

    @property
    def ready(self) -> bool:
        """Whether its model is loaded."""
        return self._ready.is_set()

    @property
    def usable(self) -> bool:
        """Whether it takes an utterance: it runs, is loading, or can be started now."""
        return not self._closed and (self._keeper is None or self._control is not None)

    def begin(self) -> None:
        """Begin to start it; returns at once.

        Raises:
            EngineUnavailable: The recognizer was closed.
        """
        if self._closed:
            raise EngineUnavailable("the embedded recognizer is closed; make a new one")
        if self._keeper is None:
            ours, theirs = socket.socketpair()
            self._control = ours
            self._keeper = asyncio.get_running_loop().create_task(self._keep(ours, theirs), name="pocketsphinx worker")

    async def wait_ready(self) -> None:
        """Wait until its model is loaded.

        Raises:
            EngineUnavailable: It isn't after a minute.
        """
        self.begin()
        try:
            async with asyncio.timeout(60):
                await self._ready.wait()
        except TimeoutError:
            raise EngineUnavailable(
                "the embedded recognizer doesn't start; reinstall the package pocketsphinx"
            ) from None

    def open(self, live: bool) -> socket.socket:
        """Give a socket to a recognizer of its own for one utterance; returns at once.

        Raises:
            EngineUnavailable: It died and isn't started again yet.
        """
        self.begin()
        if self._control is None:
            raise EngineUnavailable("the embedded recognizer died and is being started again", retry_after=1.0)
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self._control, [LIVE if live else RECORDED], [theirs.fileno()])
        except OSError as error:
            ours.close()
            raise EngineUnavailable("the embedded recognizer doesn't answer", retry_after=1.0) from error
        finally:
            theirs.close()
        ours.setblocking(False)
        return ours

    async def aclose(self) -> None:
        """End the process and its utterances; idempotent."""
        self._closed = True
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        for lose in tuple(self.holds):
            lose()

    async def _keep(self, ours: socket.socket, theirs: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        wait = _FIRST_WAIT
        while True:
            begun = loop.time()
            try:
                await self._run(ours, theirs)
            except OSError as error:
                logger.error("the recognizer's worker can't be started", extra={"error": str(error)})
            self._deaths += 1
            wait = _FIRST_WAIT if loop.time() - begun > _STABLE else min(wait * 2, _LONGEST_WAIT)
            logger.warning("the recognizer's worker ended", extra={"deaths": self._deaths, "again_in": wait})
            await asyncio.sleep(wait)
            ours, theirs = socket.socketpair()
            self._control = ours

    async def _run(self, ours: socket.socket, theirs: socket.socket) -> None:
        """Start the process and stay until it ends."""
        ours.setblocking(False)
        process: asyncio.subprocess.Process | None = None
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "engines.stt.pocketsphinx_worker",
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    cwd=_ROOT,
                    # One thread: more would not survive the fork, and the matrices are tiny.
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                )
            loop = asyncio.get_running_loop()
            while await loop.sock_recv(ours, 1) == READY:
                self._ready.set()
        finally:
            self._control = None
            self._ready.clear()
            ours.close()
            if process is not None:
                await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Wait until a worker whose input was closed has ended; kill it where it doesn't."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
