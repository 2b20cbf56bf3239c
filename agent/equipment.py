"""What the process of a room's job works with: engines, the library, and the lease it holds."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, replace

from engines.fallback import FallbackTranscriber
from engines.select import Chosen, choose, named
from engines.types import EngineError, Transcriber
from library import Library
from library.leases import LeaseHolder
from settings import Settings

EMBEDDED_EAR = "pocketsphinx"


@dataclass(frozen=True, slots=True)
class Equipment:
    """Opened by a job while it connects, closed when it has ended.

    Attributes:
        engines: Chosen for one conversation; chat and voice are started.
        library: This process's own.
        leases: This process's, with its one place.
        hearing: Starts the ear's engine, which may take a second that a greeting doesn't wait for; raises
            EngineError where it can't be started.
    """

    engines: Chosen
    library: Library
    leases: LeaseHolder
    hearing: asyncio.Task[None]

    @classmethod
    async def open(cls, settings: Settings) -> Equipment:
        """Choose and start the engines, open the library, announce this process.

        Raises:
            EngineError: An engine isn't configured or can't be started.
            LibraryError: The database cannot be used.
        """
        engines, service = engines_for_a_room(settings)
        hearing = asyncio.create_task(_start_ear(engines.stt, service), name="start the ear")
        starting = [asyncio.create_task(engine.start()) for engine in (engines.chat, engines.tts)]
        library: Library | None = None
        try:
            library = await Library.open(settings)
            # The worker has given this job a place; it has none to offer before it takes its own.
            leases = LeaseHolder(library, "agent", 0)
            await leases.start()
            await asyncio.gather(*starting)
        except BaseException:
            await _drop(hearing, *starting)
            if library is not None:
                await library.aclose()
            raise
        return cls(engines, library, leases, hearing)

    async def aclose(self) -> None:
        """Give everything back."""
        await _drop(self.hearing)
        await self.leases.aclose()
        await self.library.aclose()
        for engine in (self.engines.stt, self.engines.chat, self.engines.tts):
            await engine.aclose()


def engines_for_a_room(settings: Settings) -> tuple[Chosen, Transcriber | None]:
    """The engines of one room's conversation, and the running service among them, if it is to be asked first.

    The embedded recognizer works in processes of its own. A room's job needs one of them, and none where
    `auto` would take it while the speech-to-text service runs on this machine: that has loaded the same
    recognizer already, for all conversations.
    """
    single = copy.copy(settings)
    single.engines = settings.engines.model_copy(update={"pocketsphinx_processes": 1})
    chosen = choose(single, "conversation")
    if "auto" not in settings.engines.stt or chosen.stt.info.name != EMBEDDED_EAR:
        return chosen, None
    service = named(single, "stt", "service", "conversation")
    return replace(chosen, stt=FallbackTranscriber([service, chosen.stt])), service


async def _start_ear(ear: Transcriber, service: Transcriber | None) -> None:
    """Start the service alone where it runs: the embedded recognizer behind it loads when it is needed."""
    if service is not None:
        try:
            await service.start()
        except EngineError:
            pass
        else:
            return
    await ear.start()


async def _drop(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
