"""How many conversations this process holds, and how many it may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

PER_CORE = 8
"""Conversations a core holds: each takes about 2 % of one, and its recognizer a tenth or more while somebody speaks."""
PER_PROCESS = 50
"""Conversations one event loop holds before turns begin to take longer."""


class Full(Exception):
    """Every place is taken."""


def default_limit(cores: int, engine_limits: Collection[int | None]) -> int:
    """How many conversations a process holds where nobody says.

    Args:
        cores: Processor cores of the machine.
        engine_limits: What each of its engines accepts at once; None for one without a limit of its own.
    """
    return max(1, min([PER_CORE * cores, PER_PROCESS, *(limit for limit in engine_limits if limit is not None)]))


class Places:
    """Counts conversations, not sockets: one that replaces another of the same conversation takes its place.

    Args:
        limit: Conversations held at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """Conversations held now."""
        return len(self._taken)

    @contextmanager
    def take(self, session_id: str) -> Iterator[None]:
        """Hold a conversation while the context lasts.

        Raises:
            Full: Every place is taken.
        """
        if session_id not in self._taken and self.held >= self.limit:
            raise Full
        self._taken[session_id] += 1
        try:
            yield
        finally:
            self._taken[session_id] -= 1
            if not self._taken[session_id]:
                del self._taken[session_id]
