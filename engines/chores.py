"""Work that nobody waits for, such as closing a socket; whoever owns it waits for all of it at its own end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

PATIENCE = 2.0
"""Seconds that the rest may take at the end."""


class Chores:
    """Chores of one owner, in the event loop that runs when they are given.

    Args:
        name: Names their tasks.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` without anyone waiting for it."""
        task = asyncio.create_task(work, name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # A chore on a dead socket fails, and nothing is lost by it.
            task.exception()

    async def aclose(self) -> None:
        """Wait for those under way, and cancel what takes too long."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=PATIENCE)
            for task in late:
                task.cancel()
