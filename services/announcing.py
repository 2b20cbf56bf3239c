"""Tells the other processes how many calls a service's engine holds and takes, as conversations' processes do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from engines.types import Capacity, Kind
from library import LeaseHolder, LibraryError
from library.database import Database
from settings import Settings

logger = logging.getLogger("voice_node.services")

AGAIN_AFTER = 5.0
"""Seconds until the next attempt where the database couldn't be used."""


async def announce(settings: Settings, kind: Kind, capacity: Callable[[], Capacity]) -> None:
    """Announce a service until cancelled; one that can't be announced serves all the same.

    Args:
        settings: Name the database.
        kind: Which service.
        capacity: What its engine holds and takes now.
    """
    told = False
    while True:
        try:
            await _announce(settings, kind, capacity)
        except LibraryError as error:
            if not told:
                logger.warning("the service can't be announced yet", extra={"part": kind, "reason": str(error)})
            told = True
        await asyncio.sleep(AGAIN_AFTER)


async def _announce(settings: Settings, kind: Kind, capacity: Callable[[], Capacity]) -> None:
    database = await Database.open(settings)
    holder = LeaseHolder(database, kind, None, capacity=capacity)
    try:
        await holder.start()
        await asyncio.Event().wait()
    finally:
        await holder.aclose()
        await database.aclose()
