"""When a part counts as hung, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from launching.liveness import HUNG_AFTER, UNWELL_AFTER, until_hung
from tests.virtual_clock import virtual_time

Answer = tuple[int, str]
WELL: Answer = (200, "ok")


class FakePart:
    """Answers as it was told to for the moment: at once, when it is thawed, or never."""

    def __init__(self) -> None:
        self.answer = WELL
        self.frozen: list[tuple[float, float]] = []
        self.refuses = False

    async def ask(self, limit: float) -> Answer:
        now = asyncio.get_running_loop().time()
        if self.refuses:
            return 0, "no answer (ConnectionRefusedError)"
        for begin, end in self.frozen:
            if begin <= now < end:
                await asyncio.sleep(min(limit, end - now))
                return self.answer if end - now <= limit else (0, "no answer in time")
        return self.answer


async def watched(part: FakePart, told: Callable[[str], None], seconds: float) -> tuple[str, float]:
    """What was found wrong within these seconds (nothing: empty), and when."""
    now = asyncio.get_running_loop().time
    try:
        return await asyncio.wait_for(until_hung(part.ask, told), seconds), now()
    except TimeoutError:
        return "", now()


@virtual_time
async def test_a_part_that_is_well_is_left_alone() -> None:
    told: list[str] = []
    assert await watched(FakePart(), told.append, 3600) == ("", 3600)
    assert told == []


@pytest.mark.parametrize("seconds", [1, 5, 10])
@virtual_time
async def test_a_short_freeze_costs_no_restart(seconds: float) -> None:
    part = FakePart()
    part.frozen = [(at + 0.3, at + 0.3 + seconds) for at in range(10, 600, 30)]
    assert (await watched(part, lambda _: None, 600))[0] == ""


@virtual_time
async def test_a_part_that_stays_frozen_is_hung() -> None:
    part = FakePart()
    part.frozen = [(100, 10_000)]
    what, at = await watched(part, lambda _: None, 600)
    assert "no answer for" in what
    assert 100 + HUNG_AFTER - 1 <= at <= 100 + HUNG_AFTER + 5


@virtual_time
async def test_a_part_that_lives_and_lets_nobody_in_is_hung() -> None:
    part = FakePart()
    part.refuses = True
    what, at = await watched(part, lambda _: None, 600)
    assert what and at <= HUNG_AFTER + 2


@virtual_time
async def test_a_part_that_says_it_cannot_serve_is_not_hung_but_told_about() -> None:
    part, told = FakePart(), list[str]()
    loop = asyncio.get_running_loop()
    loop.call_later(10, setattr, part, "answer", (503, "livekit-server is away"))
    loop.call_later(300, setattr, part, "answer", WELL)
    assert (await watched(part, told.append, 600))[0] == ""
    assert told == ["can't serve at the moment (503: livekit-server is away)", "well again"]


@virtual_time
async def test_a_moment_of_not_being_well_is_not_worth_a_line() -> None:
    part, told = FakePart(), list[str]()
    loop = asyncio.get_running_loop()
    loop.call_later(10, setattr, part, "answer", (503, "busy"))
    loop.call_later(10 + UNWELL_AFTER - 2, setattr, part, "answer", WELL)
    await watched(part, told.append, 60)
    assert told == []


@virtual_time
async def test_time_in_which_we_stood_still_ourselves_is_no_evidence() -> None:
    """A laptop that slept for an hour finds its questions unanswered, and its parts well."""

    class Asleep(FakePart):
        async def ask(self, limit: float) -> Answer:
            await asyncio.sleep(3600 if self.refuses else 0)
            return (0, "no answer in time") if self.refuses else WELL

    part = Asleep()
    loop = asyncio.get_running_loop()
    loop.call_later(10, setattr, part, "refuses", True)
    loop.call_later(20, setattr, part, "refuses", False)
    assert (await watched(part, lambda _: None, 8000))[0] == ""
