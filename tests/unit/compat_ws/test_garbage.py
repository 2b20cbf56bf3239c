"""What ended conversations leave behind is taken away, also where the collector by itself would let it lie."""

from __future__ import annotations

import asyncio
import gc
import weakref

from compat_ws.garbage import sweep


class Part:
    """Refers to itself through another one, as a conversation's parts do."""

    def __init__(self) -> None:
        self.other = [self]


async def test_circles_are_taken_away_however_old_they_are() -> None:
    part = Part()
    gone = asyncio.Event()
    watched = weakref.ref(part, lambda _: gone.set())
    gc.collect()  # it is of the oldest generation now
    gc.disable()
    try:
        del part
        sweeping = asyncio.create_task(sweep(every=0.01))
        async with asyncio.timeout(20):
            await gone.wait()
        assert watched() is None
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
    finally:
        gc.enable()
