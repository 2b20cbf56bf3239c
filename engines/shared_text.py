"""Text that arrives in pieces, kept so that a second engine can begin with the first piece again.

One task takes the pieces from their source; engines read them here. An engine that is cancelled in the middle of
reading therefore never breaks the source for the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable


class SharedText:
    """The pieces of one text, for any number of readers.

    Args:
        source: Gives the pieces; read to its end or until `aclose`.

    Attributes:
        failure: What the source raised, if it did.
    """

    def __init__(self, source: AsyncIterable[str]) -> None:
        self._source = source
        self._pieces: list[str] = []
        self._ended = False
        self._more = asyncio.Event()
        self._starved = 0
        self._limit: asyncio.Timeout | None = None
        self._allowance = 0.0
        self.failure: Exception | None = None
        self._task = asyncio.create_task(self._take(), name="shared text")

    async def _take(self) -> None:
        try:
            async for piece in self._source:
                self._pieces.append(piece)
                self._arrived()
        except Exception as error:
            self.failure = error
        finally:
            self._ended = True
            self._arrived()

    def _arrived(self) -> None:
        self._more.set()
        self._more = asyncio.Event()
        self._starved = 0
        self._set_limit()

    async def read(self) -> AsyncGenerator[str, None]:
        """All pieces from the first on, as they are there.

        Raises:
            Exception: What the source raised.
        """
        position = 0
        while True:
            if position < len(self._pieces):
                position += 1
                yield self._pieces[position - 1]
            elif self.failure is not None:
                raise self.failure
            elif self._ended:
                return
            else:
                more = self._more
                self._starved += 1
                self._set_limit()
                try:
                    await more.wait()
                finally:
                    if more is self._more:
                        # This reader was cancelled while nothing had arrived.
                        self._starved -= 1
                        self._set_limit()

    def bound(self, limit: asyncio.Timeout, seconds: float) -> None:
        """Let `limit` expire after `seconds` in which the reader had text to work on; waiting for text is free."""
        self._limit = limit
        self._allowance = seconds
        self._set_limit()

    def release(self) -> None:
        """Leave the limit given to `bound` alone from now on."""
        self._limit = None

    def _set_limit(self) -> None:
        limit = self._limit
        if limit is None or limit.expired():
            return
        waiting = self._starved and not self._ended
        limit.reschedule(None if waiting else asyncio.get_running_loop().time() + self._allowance)

    async def aclose(self) -> None:
        """Stop reading the source."""
        self._task.cancel()
        await asyncio.wait({self._task})
