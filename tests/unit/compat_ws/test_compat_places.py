"""A process holds as many conversations as it has places; a replaced one frees none and takes none."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

import compat_ws
from compat_ws.places import Full, Places, default_limit
from conversation.speech_detector import AudioSpeechDetector


def test_places_are_taken_and_given_back() -> None:
    places = Places(2)
    with ExitStack() as stack:
        stack.enter_context(places.take("a"))
        stack.enter_context(places.take("b"))
        assert places.held == 2
        with pytest.raises(Full), places.take("c"):
            pass
        assert places.held == 2
    assert places.held == 0


def test_a_second_socket_of_the_same_conversation_needs_no_place_of_its_own() -> None:
    places = Places(1)
    with places.take("a"):
        with places.take("a"):
            assert places.held == 1
        assert places.held == 1
        with pytest.raises(Full), places.take("b"):
            pass
    assert places.held == 0


@pytest.mark.parametrize(
    ("cores", "engines", "limit"),
    [(2, (16, None, None), 16), (2, (None, None, None), 16), (64, (None, None), 50), (1, (0, 5), 1), (4, (3, 9), 3)],
)
def test_the_limit_is_what_engines_and_cores_hold(cores: int, engines: tuple[int | None, ...], limit: int) -> None:
    assert default_limit(cores, engines) == limit


def test_the_old_systems_detector_is_importable_from_here() -> None:
    assert compat_ws.AudioSpeechDetector is AudioSpeechDetector
