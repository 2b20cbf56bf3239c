"""Keeps the parts running: started in dependency order, asked for their health, restarted when they die or hang."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from launching.health import ask
from launching.liveness import HUNG_AFTER, until_hung
from launching.output import Output
from launching.parts import Part
from launching.process import Guardian, Running
from settings.tls import Trust

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each attempt to start a dead part again; after the last one it is given up."""

SOUND_AFTER = 60.0
"""Seconds a healthy part has to live for its earlier deaths to be forgotten."""

ASK_EVERY = (0.1, 1.0)
"""Seconds between two questions for health: at first, and at most where a part takes long."""

ASK_LIMIT = 5.0
"""Seconds an answer may take."""

WAIT_LIMIT = 60.0
"""Seconds others wait for a part to become healthy: a page that says what is missing is better than none."""

SILENT_START = 180.0
"""Seconds in which a part that starts must have answered at all, if only that it isn't ready."""

GRACE = 10.0
"""Seconds a part gets to end by itself."""


@dataclass
class _Kept:
    """A part and how it fares."""

    part: Part
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Healthy once."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Healthy once, given up or late: nobody waits for it any longer."""
    running: Running | None = None
    given_up: bool = False
    why_not: str = "no answer yet"
    hung: str = ""
    """Why it was killed in this life."""
    well: bool = False
    """Healthy once in this life."""
    written: int = 0
    """Lines it wrote in this life."""
    last_line: str = ""


class Supervisor:
    """The parts of one launcher.

    `await start()` returns when every part is healthy or will not be; `await stop()` ends all of them.

    Args:
        parts: What to start.
        env: The environment of all of them.
        output: Where their lines and ours go.
        conditions: What is no part, under the names that parts start `after`; a part whose condition comes out false
            is not started.
        pauses: Seconds before each new start of a part that died.
        trust: How parts with TLS are asked.
        hung_after: Seconds without an answer after which a part that was well is killed and started again.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        env: Mapping[str, str],
        output: Output,
        *,
        conditions: Mapping[str, asyncio.Future[bool]] | None = None,
        pauses: Sequence[float] = PAUSES,
        trust: Trust | None = None,
        hung_after: float = HUNG_AFTER,
    ) -> None:
        self._kept = {part.name: _Kept(part) for part in parts}
        self._env = env
        self._output = output
        self._conditions = conditions or {}
        self._pauses = pauses
        self._trust = trust
        self._hung_after = hung_after
        self._width = max(len(part.name) for part in parts)
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._all_gone = asyncio.Event()
        self._guardian: Guardian | None = None

    async def start(self) -> bool:
        """Start every part in its turn.

        Returns:
            Whether all of them are healthy.
        """
        self._guardian = await Guardian.start()
        for name, kept in self._kept.items():
            task = asyncio.create_task(self._keep(kept), name=f"keep {name}")
            task.add_done_callback(partial(self._kept_no_longer, kept))
            self._tasks.append(task)
        await asyncio.gather(*(kept.settled.wait() for kept in self._kept.values()))
        return all(kept.ready.is_set() and not kept.given_up for kept in self._kept.values())

    async def all_gone(self) -> None:
        """Wait until every part has been given up."""
        await self._all_gone.wait()

    @property
    def given_up(self) -> list[str]:
        """The parts that died too often."""
        return [name for name, kept in self._kept.items() if kept.given_up]

    async def stop(self, grace: float = GRACE) -> None:
        """End all parts, those first that others don't need, each with its whole process group."""
        self._stopping = True
        left = dict(self._kept)
        while left:
            needed = {name for kept in left.values() for name in kept.part.after}
            ending = {name: kept for name, kept in left.items() if name not in needed}
            await asyncio.gather(*(self._stop_one(kept, grace) for kept in ending.values()))
            left = {name: kept for name, kept in left.items() if name not in ending}
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop_one(kept, grace) for kept in self._kept.values()))  # just being started
        if self._guardian is not None:
            await self._guardian.aclose()

    def kill(self) -> None:
        """End all parts at once, without waiting for any of them."""
        self._stopping = True
        for kept in self._kept.values():
            if kept.running is not None:
                kept.running.kill()

    async def _stop_one(self, kept: _Kept, grace: float) -> None:
        if kept.running is not None and not await kept.running.stop(grace):
            self._tell(kept, f"did not end within {grace:g} s, killed")

    async def _keep(self, kept: _Kept) -> None:
        """Start a part when those it needs are there, and again whenever it dies, until it is stopped or given up."""
        needed = [self._kept[name] for name in kept.part.after if name in self._kept]
        await asyncio.gather(*(other.settled.wait() for other in needed))
        met = [await asyncio.shield(self._conditions[name]) for name in kept.part.after if name in self._conditions]
        if not all(met):
            return
        deaths = 0
        while not self._stopping:
            begun = time.monotonic()
            what = await self._live(kept)
            if self._stopping:
                return
            deaths = 1 if kept.ready.is_set() and time.monotonic() - begun > SOUND_AFTER else deaths + 1
            if kept.written > 1 or kept.well:  # a single line stands in ours already
                for text in self._output.last(kept.part.name):
                    self._output.say(text)
            if deaths > len(self._pauses):
                self._give_up(kept, f"{what}; given up after {deaths} times in a row")
                return
            pause = self._pauses[deaths - 1]
            self._tell(kept, f"{what}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)

    async def _live(self, kept: _Kept) -> str:
        """One life of a part; how it ended."""
        assert self._guardian is not None
        begun = time.monotonic()
        kept.hung, kept.well, kept.written, kept.last_line = "", False, 0, ""
        try:
            kept.running = await Running.start(
                kept.part, self._env, self._guardian, lambda text: self._written(kept, text)
            )
        except OSError as error:
            return f"could not be started ({error})"
        attending = asyncio.create_task(self._attend(kept, kept.running, begun), name=f"attend {kept.part.name}")
        try:
            status = await kept.running.wait()
        finally:
            attending.cancel()
            if not self._stopping:
                kept.running = None
        if kept.hung:
            return f"hung ({kept.hung}), killed"
        reason = f": {kept.last_line}" if status > 0 and not kept.well and kept.last_line else ""
        return f"died ({_status(status)}{reason})"

    def _written(self, kept: _Kept, text: str) -> None:
        kept.written += 1
        if text.strip():
            kept.last_line = text.strip()[:300]
        self._output.line(kept.part.name, text)

    async def _attend(self, kept: _Kept, running: Running, begun: float) -> None:
        """Wait until a part is well, then watch it; kill it, with all it started, when it hangs."""
        kept.hung = await self._until_well(kept, begun) or await until_hung(
            partial(self._ask, kept), partial(self._tell, kept), self._hung_after
        )
        running.kill()

    async def _until_well(self, kept: _Kept, begun: float) -> str:
        """Ask for a part's health until it is well; say so, or after a while why it isn't yet.

        Returns:
            Nothing; or why it will never be well.
        """
        pause, slowest = ASK_EVERY
        answered = False
        while True:
            status, _ = await self._ask(kept, ASK_LIMIT)
            if status == 200:
                break
            answered = answered or status != 0
            waited = time.monotonic() - begun
            if not answered and waited > SILENT_START:
                return f"no answer since its start {waited:.0f} s ago"
            if not kept.settled.is_set() and waited > WAIT_LIMIT:
                self._tell(kept, f"not ready after {WAIT_LIMIT:.0f} s ({kept.why_not}); going on without it")
                kept.settled.set()
            await asyncio.sleep(pause)
            pause = min(slowest, pause * 1.02)
        self._tell(kept, f"ready  {kept.part.address}  ({time.monotonic() - begun:.1f} s)")
        kept.well = True
        kept.ready.set()
        kept.settled.set()
        return ""

    async def _ask(self, kept: _Kept, limit: float) -> tuple[int, str]:
        try:
            context = self._trust.context() if self._trust else None
        except OSError as error:  # the certificate is being renewed: no fault of the part's
            return 503, f"its certificate can't be read ({error.strerror})"
        status, text = await ask(kept.part.health, limit, context)
        kept.why_not = f"{status}: {text[:200]}" if status else text
        return status, text

    def _kept_no_longer(self, kept: _Kept, task: asyncio.Task[None]) -> None:
        """A fault of our own must not leave others waiting for this part."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._give_up(kept, f"no longer watched: {fault!r}")

    def _give_up(self, kept: _Kept, what: str) -> None:
        kept.given_up = True
        kept.settled.set()
        self._tell(kept, f"FAILED: {what}")
        if len(self.given_up) == len(self._kept):
            self._all_gone.set()

    def _tell(self, kept: _Kept, text: str) -> None:
        self._output.say(f"  {kept.part.name:<{self._width}}  {text}")


def _status(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name
