"""The moments of a conversation: unix seconds as the machine's clock told them at its start, which never jump."""

from __future__ import annotations

import time
from collections.abc import Callable

Moments = Callable[[], float]


def steady_moments() -> Moments:
    """A clock for one conversation, whose differences stay true where somebody sets the machine's clock."""
    ahead = time.time() - time.monotonic()
    return lambda: ahead + time.monotonic()
