"""Which checkpoints are loaded: the engine's own, those that voices bring, and rewritten ones that still speak.

Used in one event loop; loading, looking at files and closing run in threads.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from engines.tts.xtts.loading import Loaded, Options, load, stamp
from engines.types import EngineFull, EngineUnavailable

logger = logging.getLogger("voice_node.xtts")

LOOK_EVERY = 1.0
"""Seconds between looks at the checkpoints' files; rewritten ones must stay the same for one look to be loaded."""

MOST_CHECKPOINTS = 3
"""Checkpoints loaded at once, for voices that bring their own; each takes as much memory as the first."""

AGAIN_AFTER = 5.0
"""Seconds in which a checkpoint that couldn't be loaded isn't tried again."""


class Checkpoints:
    """Loads checkpoints when they are asked for, and again when their files were rewritten.

    Args:
        main: The folder that is never given up for others.
        options: How they are run.
    """

    def __init__(self, main: Path, options: Options) -> None:
        self._main = main
        self._options = options
        self._loading: dict[Path, asyncio.Task[Loaded]] = {}
        """By folder, the one that was asked for last at the end."""
        self._retired: list[Loaded] = []
        self._looking: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    def all(self) -> list[Loaded]:
        """Everything that is loaded, also what is only spoken to its end."""
        return [one for folder in self._loading if (one := self.ready(folder))] + self._retired

    def ready(self, folder: Path) -> Loaded | None:
        """What is loaded of a folder; None while it isn't."""
        task = self._loading.get(folder)
        if task is None or not task.done() or task.cancelled() or task.exception():
            return None
        return task.result()

    def problem(self, folder: Path) -> BaseException | None:
        """Why a folder couldn't be loaded; None where it is loaded, or may yet be."""
        task = self._loading.get(folder)
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    async def get(self, folder: Path) -> Loaded:
        """The checkpoint in a folder, loaded where it isn't yet.

        Raises:
            EngineNotConfigured: It is missing or damaged, or the settings ask for what isn't there.
            EngineFull: As many as may be are loaded, and all of them speak.
            EngineUnavailable: It doesn't fit into memory, or the engine was closed.
        """
        if self._closed:
            raise EngineUnavailable("XTTS was closed.")
        task = self._loading.pop(folder, None)
        if task is None:
            self._make_room()
        elif (loaded := _result(task)) is not None and not loaded.worker.alive:
            self._retire(loaded)
            task = None
        self._loading[folder] = task or self._load(folder)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="look at xtts checkpoints")
        return await asyncio.shield(self._loading[folder])

    def released(self, loaded: Loaded) -> None:
        """A reply is over; a retired checkpoint is closed after its last one."""
        if not loaded.held and loaded in self._retired:
            self._retired.remove(loaded)
            asyncio.get_running_loop().run_in_executor(None, loaded.worker.close)

    async def aclose(self) -> None:
        """Close all of them, with whatever they speak."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await asyncio.gather(*(asyncio.to_thread(one.worker.close) for one in self.all()))
        self._loading.clear()
        self._retired.clear()

    def _load(self, folder: Path) -> asyncio.Task[Loaded]:
        task = asyncio.create_task(self._loaded(folder), name="load xtts")
        task.add_done_callback(lambda task: self._was_loaded(folder, task))
        return task

    async def _loaded(self, folder: Path) -> Loaded:
        """Load in a thread, one at a time: coqui-tts changes what may be unpickled for the whole process."""
        async with self._turn:
            return await asyncio.to_thread(load, folder, self._options)

    def _was_loaded(self, folder: Path, task: asyncio.Task[Loaded]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            logger.error("an XTTS checkpoint couldn't be loaded", extra={"reason": str(error)})
            asyncio.get_running_loop().call_later(AGAIN_AFTER, self._forget, folder, task)
        elif self._closed:
            task.result().worker.close(0)

    def _forget(self, folder: Path, task: asyncio.Task[Loaded]) -> None:
        """Let a checkpoint that couldn't be loaded be tried again."""
        if self._loading.get(folder) is task:
            del self._loading[folder]

    def _make_room(self) -> None:
        """Retire the checkpoint that was asked for longest ago, if there are as many as may be."""
        if len(self._loading) < MOST_CHECKPOINTS:
            return
        for folder in list(self._loading):
            loaded = self.ready(folder)
            if folder != self._main and loaded is not None and not loaded.held:
                del self._loading[folder]
                self._retire(loaded)
                return
        raise EngineFull(f"XTTS holds {MOST_CHECKPOINTS} checkpoints, and all of them are in use.", retry_after=2.0)

    def _retire(self, loaded: Loaded) -> None:
        """Close a checkpoint once the replies that it speaks are over."""
        self._retired.append(loaded)
        self.released(loaded)

    async def _look(self) -> None:
        """Take in checkpoints whose files were rewritten, once they stay the same; running replies go on."""
        seen: dict[Path, str] = {}
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for folder in list(self._loading):
                if (old := self.ready(folder)) is None:
                    continue
                now = await asyncio.to_thread(stamp, folder)
                if not now or now == old.stamp:
                    seen.pop(folder, None)
                elif seen.get(folder) == now:
                    await self._renew(folder, old, now)
                else:
                    seen[folder] = now

    async def _renew(self, folder: Path, old: Loaded, now: str) -> None:
        try:
            new = await self._loaded(folder)
        except Exception as error:
            logger.error("a rewritten XTTS checkpoint can't be used; the old one goes on", extra={"reason": str(error)})
            old.stamp = now
            return
        task = asyncio.create_task(_given(new))
        await task
        if self.ready(folder) is not old:
            await asyncio.to_thread(new.worker.close)
            return
        self._loading[folder] = task
        self._retire(old)
        logger.info("a rewritten XTTS checkpoint was taken in", extra={"checkpoint": new.checkpoint.fingerprint[:16]})


def _result(task: asyncio.Task[Loaded]) -> Loaded | None:
    return task.result() if task.done() and not task.cancelled() and task.exception() is None else None


async def _given(loaded: Loaded) -> Loaded:
    return loaded
