"""Waiting for something to be true of what arrived, without polling and with a reason when it never is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds until a test gives up on something; far above what even a busy machine needs."""


class Arrivals:
    """Wakes whoever waits each time something arrived.

    Args:
        summary: What arrived so far, for the message when a wait fails.
    """

    def __init__(self, summary: Callable[[], str]) -> None:
        self._summary = summary
        self._more = asyncio.Event()
        self._ended = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive."""
        return bool(self._ended)

    def notify(self) -> None:
        """Something arrived."""
        self._more.set()

    def end(self, why: str) -> None:
        """Nothing more will arrive; who waits fails at once."""
        self._ended = self._ended or why
        self._more.set()

    async def until(self, true: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Return once `true()` is.

        Raises:
            AssertionError: It did not become true in `patience` seconds, or nothing more will arrive.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while not true():
            if self._ended:
                raise AssertionError(f"waited for {what}, but {self._ended}; so far: {self._summary()}")
            self._more.clear()
            try:
                await asyncio.wait_for(self._more.wait(), max(0.0, deadline - loop.time()))
            except TimeoutError:
                raise AssertionError(f"no {what} within {patience:.0f} s; so far: {self._summary()}") from None
