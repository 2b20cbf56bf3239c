"""An event loop whose time jumps when it is idle, so that timing is tested exactly and at once.

    @virtual_time
    async def test_it_waits_a_minute() -> None:
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        assert asyncio.get_running_loop().time() == before + 60

`loop.time()` is virtual (`time.time()` and `time.monotonic()` are not). While work runs in an executor, time
stands still until it is done. A loop in which nothing can ever happen again raises `Deadlock`.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

REAL_WAIT = 5.0
"""Real seconds that a loop without any timer waits for a socket or a thread before it is called stuck."""


class Deadlock(RuntimeError):
    """Every task waits for something that no timer, socket or thread will bring."""


class _JumpingSelector(selectors.BaseSelector):
    """Asks the real selector without waiting and, where nothing is ready, moves the loop's clock instead."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = 0.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if self.threads:
            return self._real.select(REAL_WAIT)
        if timeout is None or timeout > 1e6:
            ready = self._real.select(REAL_WAIT)
            if not ready:
                raise Deadlock("no timer is set, and nothing came from a socket or a thread")
            return ready
        self.now += max(timeout, 0.0)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """`asyncio`'s own loop on a clock that starts at 0 and jumps to the next timer when nothing else is to do."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> asyncio.Future[Any]:
        self._jumping.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._jumping.threads -= 1


def run_virtual(work: Awaitable[T]) -> T:
    """Run `work` to its end on a clock of its own."""

    async def main() -> T:
        return await work

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main())


def virtual_time(test: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """Decorate an async test so that it runs on a virtual clock; fixtures and parameters work as ever."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtual(test(*args, **kwargs))

    return run
