"""The tail guard, on scripted stop codes and levels."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from engines.tally import FIELD, LOGGER
from engines.tts.xtts.chunks import CODE_SECONDS
from engines.tts.xtts.tail import Expected, SpeakingRate, TailGuard
from engines.types import Audio

CODE = round(CODE_SECONDS * 24000)
EXPECTED = Expected(least=40, usual=60, most=100)
FAR = (400, 1e-6)
"""Rank and probability of the stop code within a speech."""


def voiced(codes: float, level: float = 0.2) -> Audio:
    """Sound of so many codes at a level (RMS)."""
    return np.random.default_rng(1).normal(0, level, round(codes * CODE)).astype(np.float32)


def quiet(seconds: float) -> Audio:
    return voiced(seconds / CODE_SECONDS, 0.0005)


def run(guard: TailGuard, steps: list[tuple[int, float]]) -> int:
    """Codes until the guard ends the speech, or all of them."""
    for made, (rank, probability) in enumerate(steps, 1):
        if guard.step(rank, probability):
            return made
    return len(steps)


@pytest.mark.parametrize("codes", [20, 40, 60, 99])
@pytest.mark.parametrize("rise", [[], [0.05], [0.02, 0.1, 0.3], [0.2, 0.4, 0.6], [0.01] * 10])
def test_a_speech_that_ends_by_itself_is_never_touched(codes: int, rise: list[float]) -> None:
    guard = TailGuard(EXPECTED)
    steps = [FAR] * (codes - len(rise)) + [(0 if p > 0.2 else 3, p) for p in rise]
    assert run(guard, steps) == codes
    sound = np.concatenate((voiced(codes - 4), quiet(0.18)))
    assert guard.sound(sound) is None
    assert guard.finish(sound, 0) is sound


@pytest.mark.parametrize("pause", [0.3, 0.6, 0.9, 1.5])
def test_a_pause_within_a_speech_ends_nothing(pause: float) -> None:
    guard = TailGuard(EXPECTED)
    run(guard, [FAR] * 30)
    assert guard.sound(np.concatenate((voiced(25), quiet(pause)))) is None
    run(guard, [FAR] * 30)
    assert guard.sound(voiced(30)) is None


def test_a_pause_after_the_first_of_two_sentences_ends_nothing_though_the_network_thought_of_stopping() -> None:
    guard = TailGuard(EXPECTED)
    run(guard, [FAR] * 44 + [(1, 0.05)] + [FAR] * 12)
    assert guard.sound(np.concatenate((voiced(45), quiet(0.8)))) is None


def test_a_missed_stop_ends_where_it_was_likeliest() -> None:
    guard = TailGuard(EXPECTED)
    ended = run(guard, [FAR] * 58 + [(0, 0.5), (0, 0.9), (0, 0.7), (1, 0.3)] + [FAR] * 50)
    assert guard.reason == "missed_stop"
    assert ended == 61
    assert len(guard.finish(voiced(61), 0)) == pytest.approx(60 * CODE, abs=CODE / 4)


def test_the_network_may_think_of_stopping_as_often_as_it_likes_before_the_text_can_be_spoken() -> None:
    assert run(TailGuard(EXPECTED), [(0, 0.9)] * 39 + [FAR] * 20) == 59


def test_a_run_on_into_silence_is_cut_after_a_natural_quiet() -> None:
    guard = TailGuard(EXPECTED)
    run(guard, [FAR] * 60 + [(2, 0.03)] + [FAR] * 14)
    sound = np.concatenate((voiced(60), quiet(0.62)))
    assert guard.sound(sound[: 50 * CODE]) is None
    assert guard.sound(sound[50 * CODE :]) == "trailing_quiet"
    kept = guard.finish(sound[50 * CODE :], 50 * CODE)
    assert len(kept) / 24000 == pytest.approx(10 * CODE_SECONDS + 0.15, abs=0.011)


def test_silence_for_two_seconds_ends_a_speech_whatever_the_network_thinks() -> None:
    guard = TailGuard(EXPECTED)
    run(guard, [FAR] * 70)
    assert guard.sound(np.concatenate((voiced(20), quiet(1.9)))) is None
    assert guard.sound(quiet(0.2)) == "trailing_quiet"


def test_silence_before_the_first_sound_is_no_trailing_quiet() -> None:
    guard = TailGuard(EXPECTED)
    run(guard, [FAR] * 60)
    assert guard.sound(quiet(2.5)) is None


def test_babble_ends_when_it_is_longer_than_the_text_can_be_at_the_stop_it_was_offered() -> None:
    guard = TailGuard(EXPECTED)
    assert run(guard, [FAR] * 62 + [(1, 0.08), (4, 0.03)] + [FAR] * 200) == 101
    assert guard.reason == "too_long"
    assert len(guard.finish(voiced(101), 0)) == pytest.approx(63 * CODE, abs=CODE / 4)


def test_babble_that_was_never_offered_a_stop_ends_at_the_longest() -> None:
    guard = TailGuard(EXPECTED)
    assert run(guard, [FAR] * 500) == 101
    assert len(guard.finish(voiced(110), 0)) == pytest.approx(101 * CODE, abs=CODE / 4)


def test_a_speech_that_is_spoken_twice_as_fast_is_cut_at_half_the_time() -> None:
    guard = TailGuard(EXPECTED, rate=2.0)
    run(guard, [FAR] * 500)
    assert len(guard.finish(voiced(110), 0)) == pytest.approx(101 * CODE / 2, abs=CODE / 4)


def test_a_cut_fades_out_within_five_milliseconds() -> None:
    guard = TailGuard(EXPECTED)
    run(guard, [FAR] * 500)
    sound = np.ones(110 * CODE, np.float32)
    kept = guard.finish(sound, 0)
    assert kept[-1] == 0
    assert (kept[:-120] == 1).all()
    assert (np.diff(kept[-120:]) < 0).all()


def test_sound_sent_beyond_the_cut_is_faded_at_once_not_broken_off() -> None:
    guard = TailGuard(EXPECTED)
    run(guard, [FAR] * 62 + [(1, 0.08)] + [FAR] * 200)
    kept = guard.finish(np.ones(5 * CODE, np.float32), 95 * CODE)
    assert len(kept) == 120
    assert kept[-1] == 0


def test_what_was_trimmed_is_counted_by_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    logging.getLogger(LOGGER).addHandler(caplog.handler)
    TailGuard(EXPECTED).finish(voiced(10), 0)
    guard = TailGuard(EXPECTED)
    run(guard, [FAR] * 500)
    guard.finish(voiced(110), 0)
    logging.getLogger(LOGGER).removeHandler(caplog.handler)
    counted = {(record.message, str(getattr(record, FIELD))) for record in caplog.records if hasattr(record, FIELD)}
    assert counted == {("trimmed_speeches", "(1, {'reason': 'too_long'})")}


def test_loudness_is_told_the_same_however_the_sound_is_cut() -> None:
    sound = np.concatenate((voiced(60), quiet(0.62)))
    ends = set()
    for size in (100, 239, 240, 4096, len(sound)):
        guard = TailGuard(EXPECTED)
        run(guard, [FAR] * 60 + [(2, 0.03)])
        for begin in range(0, len(sound), size):
            guard.sound(sound[begin : begin + size])
        ends.add(len(guard.finish(sound, 0)))
    assert len(ends) == 1


def test_a_voice_teaches_its_rate_and_narrows_what_is_expected() -> None:
    rate = SpeakingRate()
    before = rate.expects(100)
    for characters in (20, 60, 100, 140) * 8:
        rate.learn(characters, round(6 + characters * 1.1))
    after = rate.expects(100)
    assert after.usual == pytest.approx(116, abs=4)
    assert before.least < after.least < after.usual < after.most < before.most


def test_a_few_odd_speeches_hardly_change_the_rate() -> None:
    rate = SpeakingRate()
    for _ in range(30):
        rate.learn(100, 146)
    before = rate.expects(100)
    rate.learn(100, 602)
    rate.learn(0, 50)
    rate.learn(50, 1)
    after = rate.expects(100)
    assert after.usual == pytest.approx(before.usual, rel=0.05)


def test_a_slow_voice_is_learnt_before_it_is_cut() -> None:
    rate = SpeakingRate()
    for _ in range(20):
        assert rate.expects(100).most > 6 + 100 * 2.6
        rate.learn(100, 266)
    assert rate.expects(100).usual == pytest.approx(266, rel=0.15)


@pytest.mark.parametrize("characters", [1, 2, 5])
def test_very_short_texts_are_bounded_to_two_seconds(characters: int) -> None:
    expected = SpeakingRate().expects(characters)
    assert expected.least >= 1
    assert expected.most * CODE_SECONDS < 2.5
