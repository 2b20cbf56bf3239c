"""Everything a client is sent, in order, by one sender: putting never waits, a client that doesn't read is noticed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

PATIENCE = 10.0
"""Seconds that a message may wait for the client to read."""


class NotRead(Exception):
    """The client hasn't read for `PATIENCE` seconds."""

    def __init__(self) -> None:
        super().__init__(f"nothing was read for {PATIENCE:.0f} s")


@dataclass(frozen=True, slots=True)
class _Waiting:
    message: str | bytes
    since: float
    sound: float
    """Seconds of sound in it."""


class Outbox:
    """Sends a socket's messages.

    Args:
        send: Sends one message; waits while the client's line is full.
    """

    def __init__(self, send: Callable[[str | bytes], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: deque[_Waiting] = deque()
        self._more = asyncio.Event()

    def put(self, message: str | bytes, sound: float = 0.0) -> None:
        """Send a message after those before it; `sound` tells the seconds of sound in it."""
        self._waiting.append(_Waiting(message, asyncio.get_running_loop().time(), sound))
        self._more.set()

    def drop_sound(self) -> float:
        """Take back sound that wasn't sent yet; gives its seconds."""
        kept = [each for each in self._waiting if not each.sound]
        dropped = sum(each.sound for each in self._waiting)
        self._waiting = deque(kept)
        return dropped

    async def run(self) -> None:
        """Send until cancelled.

        Raises:
            NotRead: The client doesn't read.
        """
        while True:
            while self._waiting:
                oldest = self._waiting.popleft()
                try:
                    async with asyncio.timeout_at(oldest.since + PATIENCE):
                        await self._send(oldest.message)
                except TimeoutError as error:
                    raise NotRead from error
            self._more.clear()
            await self._more.wait()
