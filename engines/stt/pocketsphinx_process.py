"""A worker process of the embedded recognizer, seen from the event loop that uses it.

Frames for a worker that is still starting wait here. A worker that dies takes its utterances with it, each of
which is told, and is started again, more slowly every time it dies soon after.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines.stt.pocketsphinx_wire import Frame, Frames, Op
from engines.types import EngineError, EngineUnavailable

logger = logging.getLogger("voice_node.pocketsphinx")

_ROOT = Path(__file__).resolve().parent.parent.parent
_LONGEST_WAIT = 30.0
_STABLE = 60.0
_PATIENCE = 5.0
"""Seconds a closed worker has to end by itself."""


@dataclass(frozen=True, slots=True)
class _Ears:
    on_frame: Callable[[Frame], None]
    on_failure: Callable[[EngineError], None]


class WorkerProcess:
    """One worker. Belongs to the event loop on which it was first used."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: list[Frame] = []
        self._utterances: dict[int, _Ears] = {}
        self._next = 0
        self._keeper: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._closing = False
        self._died = 0

    @property
    def held(self) -> int:
        """Live utterances."""
        return len(self._utterances)

    @property
    def alive(self) -> bool:
        """Whether it runs and has its model loaded."""
        return self._process is not None and self._process.returncode is None and self._ready.is_set()

    def ensure_running(self) -> None:
        """Begin to start it; returns at once."""
        if self._keeper is None and not self._closing:
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="pocketsphinx worker")

    async def ready(self) -> None:
        """Wait until its model is loaded.

        Raises:
            EngineUnavailable: It isn't after a minute.
        """
        try:
            async with asyncio.timeout(60):
                await self._ready.wait()
        except TimeoutError:
            raise EngineUnavailable(
                "the embedded recognizer doesn't start; reinstall the package pocketsphinx"
            ) from None

    def open(self, on_frame: Callable[[Frame], None], on_failure: Callable[[EngineError], None]) -> int:
        """Open an utterance and give its number."""
        self._next += 1
        self._utterances[self._next] = _Ears(on_frame, on_failure)
        self.send(Frame(Op.OPEN, self._next))
        return self._next

    def forget(self, utterance: int) -> None:
        """The utterance is over; what still comes for it is ignored."""
        self._utterances.pop(utterance, None)

    def send(self, frame: Frame) -> None:
        """Hand a frame over; returns at once."""
        if self._process is None or self._process.stdin is None:
            self._waiting.append(frame)
        elif not self._process.stdin.is_closing():
            self._process.stdin.write(bytes(frame))

    async def aclose(self) -> None:
        """End the process; its utterances fail."""
        self._closing = True
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        self._fail(EngineUnavailable("the embedded recognizer was closed"))

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        wait = 0.5
        while True:
            begun = loop.time()
            try:
                await self._run()
            except OSError as error:
                logger.error("the recognizer process could not be started: %s", error)
            self._died += 1
            self._fail(EngineUnavailable("the embedded recognizer's process died; it is being started again"))
            wait = 0.5 if loop.time() - begun > _STABLE else min(wait * 2, _LONGEST_WAIT)
            logger.warning("the recognizer process ended", extra={"deaths": self._died, "again_in": wait})
            await asyncio.sleep(wait)

    async def _run(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "engines.stt.pocketsphinx_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        try:
            for frame in self._waiting:
                process.stdin.write(bytes(frame))
            self._waiting.clear()
            frames = Frames()
            while data := await process.stdout.read(1 << 16):
                for frame in frames.feed(data):
                    self._on_frame(frame)
            await process.wait()
        finally:
            self._process = None
            self._ready.clear()
            await self._end(process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Close its input, at which it ends; kill it where it doesn't."""
        if process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _on_frame(self, frame: Frame) -> None:
        if frame.op is Op.READY:
            self._ready.set()
        elif ears := self._utterances.get(frame.utterance):
            ears.on_frame(frame)

    def _fail(self, error: EngineError) -> None:
        self._waiting.clear()
        for ears in list(self._utterances.values()):
            ears.on_failure(error)
        self._utterances.clear()
