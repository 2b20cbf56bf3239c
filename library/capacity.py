"""What is free among the processes, from what they say they hold; and when to ask again where nothing is.

Conversation processes (`agent`, `compat`, `console`) count conversations. Services (`stt`, `chat`, `tts`) count calls,
which last only as long as somebody speaks or is answered.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from library.holder import Kind
from library.leases import HolderRow

SOONEST, LATEST = 2, 30
"""Seconds after which somebody who was refused is told to ask again, at least and at most."""
UNKNOWN = 5
"""The same where nothing is held of which it could be told."""
CALL = 2
"""Seconds after which a service that is full has a free place: calls are short."""


def free_places(holders: Collection[HolderRow], kind: Kind) -> float | None:
    """How much more the processes of one kind take; None where none is alive.

    A worker and the jobs it runs each announce what they hold and their limit; a limit of None is no limit.
    """
    alive = [holder for holder in holders if holder.kind == kind]
    if not alive:
        return None
    return sum(math.inf if one.limit is None else max(0, one.limit - one.held) for one in alive)


def full_service(holders: Collection[HolderRow], needed: Collection[Kind]) -> Kind | None:
    """A service without which there is no conversation, and which takes no call now.

    One that hasn't announced itself is not called full: it may be on another database.
    """
    return next((kind for kind in needed if free_places(holders, kind) == 0), None)


def seconds_until_free(held_for: Collection[float]) -> int:
    """When a place is likely to be free.

    Of things that come and go all the time, those under way last on average as long again as they have lasted so far;
    and of several the first ends sooner by their number.

    Args:
        held_for: Seconds for which each place has been held.
    """
    if not held_for:
        return UNKNOWN
    mean = sum(max(0.0, seconds) for seconds in held_for) / len(held_for)
    return min(LATEST, max(SOONEST, math.ceil(mean / len(held_for))))
