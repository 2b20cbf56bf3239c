"""How often a caller may call, and how often guess a key: token buckets in memory, a bounded number of them.

Everything that asks for a key is counted, so that no new path is forgotten; `/health` and the page's files are not.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import HTTPConnection

from services.callers import counted_address, counted_caller
from services.errors import ApiError
from settings import Settings

BUCKETS = 10_000
"""Callers remembered at once; beyond it the one who hasn't called for the longest time is forgotten."""


class Buckets:
    """A bucket for each caller: full it holds a minute's calls, and it fills evenly.

    Args:
        per_minute: Calls a minute; 0 for no limit.
        clock: Seconds of a clock that nobody sets.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = float(per_minute)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What is left in each caller's bucket, and when that was so; who called last comes last."""

    def __len__(self) -> int:
        return len(self._left)

    def take(self, caller: str | None, calls: int = 1) -> float:
        """Take calls out of the caller's bucket.

        Args:
            caller: Whose bucket; None is never refused.
            calls: How many; 0 only looks whether one could be taken.

        Returns:
            0 where there were enough, else the seconds until there are (and nothing was taken).
        """
        if not self._size or caller is None:
            return 0.0
        now = self._clock()
        left, since = self._left.pop(caller, (self._size, now))
        left = min(self._size, left + (now - since) * self._size / 60)
        wanted = max(1, calls)
        enough = left >= wanted
        self._left[caller] = (left - calls if enough else left, now)
        if len(self._left) > BUCKETS:
            self._left.popitem(last=False)
        return 0.0 if enough else (wanted - left) * 60 / self._size


class Rates:
    """The rates of one part.

    Args:
        settings: Hold the limits, and the keys by which callers are told apart.
        clock: Seconds of a clock that nobody sets.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._calls = Buckets(settings.limits.calls_per_minute, clock)
        self._guesses = Buckets(settings.limits.wrong_keys_per_minute, clock)

    def call(self, conn: HTTPConnection) -> None:
        """Count a call.

        Raises:
            ApiError: The caller makes too many; says when to go on.
        """
        if wait := self._calls.take(counted_caller(conn, self._settings)):
            raise too_fast("Too many calls", wait)

    def may_guess(self, conn: HTTPConnection) -> None:
        """See whether this address may try a key at all, right or wrong: else guessing would only be slower.

        Raises:
            ApiError: Too many wrong ones came from it.
        """
        if wait := self._guesses.take(counted_address(conn), 0):
            raise too_fast("Too many wrong keys", wait)

    def guessed(self, conn: HTTPConnection) -> None:
        """Count a wrong key."""
        self._guesses.take(counted_address(conn))


def too_fast(what: str, wait: float) -> ApiError:
    """The refusal of a caller who calls too often."""
    seconds = math.ceil(wait)
    unit = "second" if seconds == 1 else "seconds"
    return ApiError(429, "too_fast", f"{what}; go on in {seconds} {unit}.", {"Retry-After": str(seconds)})
