"""A reply is taken on only where all of them stay faster than real time."""

from __future__ import annotations

import pytest

from engines.tts.xtts.admission import CODE_SECONDS, MARGIN, RoundCost, fits, refusal

ROOM = CODE_SECONDS * MARGIN


def cost(steps: dict[int, float], per_code: float = 0.0, per_prompt: float = 0.0) -> RoundCost:
    known = RoundCost()
    known.measured(steps, per_code, per_prompt)
    return known


def test_as_many_as_stay_faster_than_real_time() -> None:
    known = cost({1: 0.010, 2: 0.012, 4: 0.016}, per_code=0.004)
    assert known.of(1) == pytest.approx(0.014)
    assert known.of(3) == pytest.approx(0.014 + 0.012), "between two that were measured"
    assert known.of(5) == pytest.approx(0.018 + 0.020), "as it grew last"
    assert known.most(100) == 5
    assert known.most(3) == 3


def test_none_where_a_single_one_is_too_slow() -> None:
    known = cost({1: ROOM, 2: ROOM}, per_code=0.001)
    assert known.most(8) == 0
    error = refusal([], known.of(1))
    assert "too slow to speak live" in error.message and "XTTS_STREAMS=1" in error.message


def test_where_one_number_is_known_a_step_grows_with_the_streams() -> None:
    assert cost({2: 0.02}).step_of(4) == pytest.approx(0.04)
    assert cost({2: 0.02}).step_of(1) == pytest.approx(0.02)


def test_reading_prompts_counts() -> None:
    assert cost({1: 0.03, 2: 0.03}, per_prompt=1.2).most(2) == 0
    assert cost({1: 0.03, 2: 0.03}, per_prompt=0.12).most(2) == 2


def test_a_machine_that_became_slow_takes_fewer_until_it_is_idle() -> None:
    known = cost({1: 0.01, 2: 0.011, 4: 0.013})
    assert known.most(4) == 4
    for _ in range(60):
        known.step(2, 0.040)
    assert known.most(4) < 4
    known.idle()
    assert known.most(4) == 4


def test_one_long_pause_of_the_process_changes_little() -> None:
    known = cost({1: 0.01, 2: 0.011})
    known.step(2, 3.0)
    assert known.step_of(2) < 0.015


def test_checkpoints_share_the_machine() -> None:
    one, other = cost({1: 0.02, 2: 0.021}), cost({1: 0.03})
    assert fits([one.of(2)]) and fits([other.of(1)])
    assert not fits([one.of(2), other.of(1)])


def test_a_refused_caller_comes_back_when_the_first_reply_will_be_over() -> None:
    assert refusal([400, 50], 0.03).retry_after == pytest.approx(1.5)
    assert refusal([1], 0.03).retry_after == 0.5
    assert refusal([6000], 0.03).retry_after == 3.0
