"""What the process of a room's job works with: engines, the library, and the lease it holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from engines.select import Chosen, choose
from library import Library
from library.leases import LeaseHolder
from settings import Settings


@dataclass(frozen=True, slots=True)
class Equipment:
    """Opened by a job while it connects, closed when it has ended."""

    engines: Chosen
    library: Library
    leases: LeaseHolder

    @classmethod
    async def open(cls, settings: Settings) -> Equipment:
        """Choose and start the engines, open the library, announce this process with its one place.

        Raises:
            EngineError: An engine isn't configured or can't be started.
            LibraryError: The database cannot be used.
        """
        engines = choose(settings, "conversation")
        starting = [asyncio.create_task(engine.start()) for engine in (engines.stt, engines.chat, engines.tts)]
        library: Library | None = None
        try:
            library = await Library.open(settings)
            leases = LeaseHolder(library, "agent", 1)
            await leases.start()
            await asyncio.gather(*starting)
        except BaseException:
            for start in starting:
                start.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            if library is not None:
                await library.aclose()
            raise
        return cls(engines, library, leases)

    async def aclose(self) -> None:
        """Give everything back."""
        await self.leases.aclose()
        await self.library.aclose()
        for engine in (self.engines.stt, self.engines.chat, self.engines.tts):
            await engine.aclose()
