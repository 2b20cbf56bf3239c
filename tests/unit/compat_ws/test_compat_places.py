"""A process holds as many conversations as it has places; a replaced one frees none and takes none."""

from __future__ import annotations

import asyncio

import pytest

import compat_ws
from compat_ws.places import HANDOVER, Full, Places, default_limit
from conversation.speech_detector import AudioSpeechDetector
from tests.virtual_clock import virtual_time


async def test_places_are_taken_and_given_back() -> None:
    places = Places(lambda: 2)
    async with places.take("a"), places.take("b"):
        assert places.held == 2
        with pytest.raises(Full):
            async with places.take("c"):
                pass
        assert places.held == 2
    assert places.held == 0


class Socket:
    """Holds a conversation until it is replaced, and then takes some time to store what was said."""

    def __init__(self, places: Places, session: str, storing: float = 0.0) -> None:
        self.began: float | None = None
        self.ended: float | None = None
        self.task = asyncio.create_task(self._hold(places, session, storing))

    async def _hold(self, places: Places, session: str, storing: float) -> None:
        loop = asyncio.get_running_loop()
        async with places.take(session) as place:
            self.began = loop.time()
            await place.replaced.wait()
            await asyncio.sleep(storing)
        self.ended = loop.time()


@virtual_time
async def test_a_second_socket_replaces_the_first_in_its_place_once_that_has_stored_what_was_said() -> None:
    places = Places(lambda: 1)
    first = Socket(places, "a", storing=0.5)
    await asyncio.sleep(1)
    second, third = Socket(places, "a", storing=0.25), Socket(places, "a")
    await asyncio.sleep(10)
    assert (first.began, first.ended) == (0.0, 1.5)
    assert (second.began, second.ended) == (1.5, 1.75)
    assert (third.began, third.ended) == (1.75, None)
    assert places.held == 1
    with pytest.raises(Full):
        async with places.take("b"):
            pass
    third.task.cancel()
    await asyncio.gather(third.task, return_exceptions=True)
    assert places.held == 0


@virtual_time
async def test_one_that_never_finishes_storing_is_not_waited_for() -> None:
    places = Places(lambda: 1)
    slow = Socket(places, "a", storing=1000.0)
    await asyncio.sleep(1)
    second = Socket(places, "a")
    await asyncio.sleep(10)
    assert second.began == 1 + HANDOVER
    await asyncio.sleep(1000)
    assert slow.ended is not None
    assert places.held == 1
    second.task.cancel()


@pytest.mark.parametrize(
    ("cores", "engines", "limit"),
    [(2, (16, None, None), 16), (2, (None, None, None), 16), (64, (None, None), 50), (1, (0, 5), 1), (4, (3, 9), 3)],
)
def test_the_limit_is_what_engines_and_cores_hold(cores: int, engines: tuple[int | None, ...], limit: int) -> None:
    assert default_limit(cores, engines) == limit


def test_the_old_systems_detector_is_importable_from_here() -> None:
    assert compat_ws.AudioSpeechDetector is AudioSpeechDetector
