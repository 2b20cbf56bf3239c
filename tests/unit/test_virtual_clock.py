"""The virtual clock jumps when idle, orders timers as the real one does, and finds deadlocks."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests import virtual_clock
from tests.virtual_clock import Deadlock, run_virtual, virtual_time


@virtual_time
async def test_an_hour_passes_at_once_and_exactly() -> None:
    began, real = asyncio.get_running_loop().time(), time.monotonic()
    await asyncio.sleep(3600)
    assert asyncio.get_running_loop().time() == began + 3600
    assert time.monotonic() - real < 60


@virtual_time
async def test_timers_fire_in_order() -> None:
    order: list[str] = []

    async def later(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(name)

    await asyncio.gather(later("c", 3), later("a", 1), later("b", 2))
    assert order == ["a", "b", "c"]


@virtual_time
async def test_time_stands_still_while_a_thread_works() -> None:
    async def timeout() -> None:
        await asyncio.sleep(0.001)

    timer = asyncio.create_task(timeout())
    await asyncio.to_thread(time.sleep, 0.05)
    assert asyncio.get_running_loop().time() < 0.001
    await timer


@pytest.mark.parametrize("seconds", [1, 2])
@virtual_time
async def test_parameters_arrive(seconds: int) -> None:
    await asyncio.sleep(seconds)


def test_a_loop_in_which_nothing_can_happen_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_clock, "REAL_WAIT", 0.05)

    async def stuck() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run_virtual(stuck())
