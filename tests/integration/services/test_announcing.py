"""A service says in the database how many calls its engine holds and takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from engines.stt.service import ServiceTranscriber
from library import HolderRow, Library
from settings import Settings
from tests.served import ServiceProcess

Make = Callable[..., Settings]


async def row(library: Library, kind: str, held: int) -> HolderRow:
    """The service's row, once it says that it holds so many."""
    async with asyncio.timeout(20):
        while True:
            for each in await library.leases.holders():
                if (each.kind, each.held) == (kind, held):
                    return each
            await asyncio.sleep(0.1)


async def test_calls_held_and_their_limit_are_announced(stt_service: ServiceProcess, make_settings: Make) -> None:
    library = await Library.open(make_settings(DATA_DIR=str(stt_service.log.parent / "data")))
    try:
        assert (await row(library, "stt", 0)).limit == 8
        engine = ServiceTranscriber(stt_service.url)
        utterance = engine.stream()
        utterance.push(np.zeros(16_000, np.float32))
        await row(library, "stt", 1)
        await utterance.cancel()
        await row(library, "stt", 0)
        await engine.aclose()
    finally:
        await library.aclose()
