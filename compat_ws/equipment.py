"""What all conversations of this process share: engines, library, leases, places."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import Any

from compat_ws.places import Full, Places, default_limit
from conversation.latency import LatencyHistograms
from conversation.tracing import TurnTracer
from engines.select import Chosen, only_through_service
from engines.types import EngineError
from library import DatabaseError, Library
from library.capacity import CALL, full_service
from library.leases import LeaseHolder
from settings import Settings

logger = logging.getLogger("voice_node.compat_ws")


@dataclass(frozen=True, slots=True)
class Equipment:
    """Opened when the server starts, closed when it stops."""

    settings: Settings
    engines: Chosen
    library: Library
    leases: LeaseHolder
    places: Places
    histograms: LatencyHistograms
    tracer: TurnTracer | None

    @classmethod
    async def open(
        cls, settings: Settings, engines: Chosen, places: Places, histograms: LatencyHistograms
    ) -> Equipment:
        """Open the library and tell the other processes that this one is there.

        Raises:
            LibraryError: The database cannot be used.
        """
        library = await Library.open(settings)
        try:
            leases = LeaseHolder(library, "compat", places.limit)
            await leases.start()
        except BaseException:
            await library.aclose()
            raise
        return cls(settings, engines, library, leases, places, histograms, TurnTracer.of(settings))

    async def check_services(self) -> None:
        """Return if every service takes a call without which there is no conversation.

        Raises:
            Full: One doesn't.
            DatabaseError: The database failed.
        """
        needed = only_through_service(self.settings)
        if needed and full_service(await self.library.leases.holders(), needed):
            raise Full(CALL)

    def check_database(self) -> None:
        """Return if a conversation could be taken up and kept now.

        Raises:
            DatabaseError: It couldn't; the message names the fix.
        """
        if self.leases.trouble:
            raise DatabaseError(self.leases.trouble)

    async def start_engines(self) -> None:
        """Load the engines that aren't yet.

        Raises:
            EngineError: One can't be; what it says names the fix.
        """
        try:
            await asyncio.gather(*(engine.start() for engine in _all(self.engines)))
        finally:
            self.leases.limit = self.places.limit  # services have said by now how much they take

    async def warm_up(self) -> None:
        """Load the engines before anybody calls; a failure is logged, and tried again with the first call."""
        try:
            await self.start_engines()
        except EngineError as error:
            logger.warning("an engine isn't ready: %s", error.message)

    async def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether a conversation could be held and kept now, and with what."""
        healths = await asyncio.gather(*(engine.health() for engine in _all(self.engines)))
        reasons = [health.reason for health in healths if not health.ok]
        if trouble := self.leases.trouble or self.library.database.condition.reason:
            reasons.append(trouble)
        fields: dict[str, Any] = {
            "conversations": {"held": self.places.held, "limit": self.places.limit},
            "engines": {
                engine.info.kind: {"name": engine.info.name, "model": engine.info.model, "ok": health.ok}
                # Why an engine of the list doesn't serve now, where another one does.
                | ({"reason": health.reason} if health.reason else {})
                for engine, health in zip(_all(self.engines), healths, strict=True)
            },
        }
        if reasons:
            fields["reason"] = "; ".join(reasons)
        return not reasons, fields

    async def aclose(self) -> None:
        """Give everything back."""
        await self.leases.aclose()
        await self.library.aclose()
        if self.tracer is not None:
            await self.tracer.aclose()
        await asyncio.gather(*(engine.aclose() for engine in _all(self.engines)), return_exceptions=True)


def places_for(settings: Settings, engines: Chosen) -> Places:
    """As many places as settings say, or as engines and processor hold."""
    cores = os.cpu_count() or 1

    def limit() -> int:
        limits = [engine.capacity.limit for engine in _all(engines)]
        return settings.conversations.max_conversations or default_limit(cores, limits)

    return Places(limit)


def _all(engines: Chosen) -> tuple[Any, ...]:
    return (engines.stt, engines.chat, engines.tts)
