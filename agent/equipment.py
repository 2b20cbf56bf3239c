"""What the process of a room's job works with: engines, the library, and the lease it holds."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, replace
from typing import Any

from conversation.tracing import TurnTracer
from engines.failover import Line
from engines.select import Chosen, choose, hearing, named
from engines.types import EngineError, Transcriber
from library import Library
from library.leases import LeaseHolder
from settings import Settings

EMBEDDED_EAR = "pocketsphinx"
SERVICE_ANSWERS_WITHIN = 1.0
"""Seconds a running speech-to-text service has to say that it is ready."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """Opened by a job while it connects, closed when it has ended.

    Attributes:
        engines: Chosen for one conversation; chat and voice are started.
        library: This process's own.
        leases: This process's.
        hearing: Starts the ear's engine, which may take a second that a greeting doesn't wait for; raises
            EngineError where it can't be started.
        tracer: Where the conversation's turns are traced.
    """

    engines: Chosen
    library: Library
    leases: LeaseHolder
    hearing: asyncio.Task[None]
    tracer: TurnTracer | None = None

    @classmethod
    async def open(cls, settings: Settings) -> Equipment:
        """Choose and start the engines, open the library, announce this process.

        Raises:
            EngineError: An engine isn't configured or can't be started.
            LibraryError: The database cannot be used.
        """
        chosen = choose(_with_one_recognizer(settings), "conversation")
        starting = [asyncio.create_task(engine.start()) for engine in (chosen.chat, chosen.tts)]
        listening = asyncio.create_task(_running_service(settings, chosen))
        library: Library | None = None
        try:
            library = await Library.open(settings)
            # The worker counts the places, and the one it gave this job as taken until it has ended: the job has none
            # to offer, neither before it holds its conversation nor after.
            leases = LeaseHolder(library, "agent", "held")
            await leases.start()
            await asyncio.gather(*starting)
            service = await listening
        except BaseException:
            await _drop(listening, *starting)
            if library is not None:
                await library.aclose()
            raise
        if service is not None:
            ready = asyncio.create_task(asyncio.sleep(0))
            own = chosen.stt.engines if isinstance(chosen.stt, Line) else (chosen.stt,)
            chosen = replace(chosen, stt=hearing(settings, [service, *own]))
        else:
            ready = asyncio.create_task(chosen.stt.start(), name="start the ear")
        return cls(chosen, library, leases, ready, TurnTracer.of(settings))

    async def aclose(self) -> None:
        """Give everything back."""
        await _drop(self.hearing)
        await self.leases.aclose()
        await self.library.aclose()
        if self.tracer is not None:
            await self.tracer.aclose()
        for engine in (self.engines.stt, self.engines.chat, self.engines.tts):
            await engine.aclose()


def _with_one_recognizer(settings: Settings) -> Settings:
    """The settings of a process that holds one conversation, for which one recognizer is enough."""
    single = copy.copy(settings)
    single.engines = settings.engines.model_copy(update={"pocketsphinx_processes": 1})
    return single


async def _running_service(settings: Settings, chosen: Chosen) -> Transcriber | None:
    """The speech-to-text service, started, where it serves a room better than what was chosen.

    That is where `auto` took the embedded recognizer: the service has loaded the same one already, once
    for all conversations, in place of a process for each room.
    """
    if "auto" not in settings.engines.stt or chosen.stt.info.name != EMBEDDED_EAR:
        return None
    service = named(settings, "stt", "service", "conversation")
    try:
        async with asyncio.timeout(SERVICE_ANSWERS_WITHIN):
            await service.start()
    except (EngineError, TimeoutError):
        await service.aclose()
        return None
    return service


async def _drop(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
