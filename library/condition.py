"""Whether the database works, as this process finds it: told once when it stops, and once when it works again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from library.errors import DatabaseError

log = logging.getLogger("voice_node.library")

QUIET = 3.0
"""Seconds without a failure after which a database that works is believed to work: one that is full may still take
what needs no room."""


class Condition:
    """Kept by the database; every read and write reports to it.

    Args:
        place: Where the database is, for people.
        clock: Seconds of a clock that nobody sets.
    """

    def __init__(self, place: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._clock = clock
        self._reason = ""
        self._failed_at = 0.0

    @property
    def reason(self) -> str:
        """What is wrong, with what to do about it; empty where nothing is."""
        return self._reason

    def failed(self, error: DatabaseError) -> None:
        """Something could not be read or written."""
        if not self._reason:
            log.warning("the database fails, conversations go on without it: %s", error)
        self._reason = str(error)
        self._failed_at = self._clock()

    def wrote(self) -> None:
        """Something was written."""
        if self._reason and self._clock() - self._failed_at > QUIET:
            self._reason = ""
            log.info("the database works again", extra={"database": self._place})
