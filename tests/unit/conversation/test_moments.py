"""A conversation's clock doesn't jump when the machine's does, and so no latency record does."""

from __future__ import annotations

import time

import pytest

from conversation.ear import TurnEnded
from conversation.latency import LatencyLog, Record
from conversation.moments import steady_moments


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_setting_the_machines_clock_changes_no_difference(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    real = time.time
    moments = steady_moments()
    before = moments()
    assert abs(before - real()) < 5
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert 0 <= moments() - before < 60


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_record_of_a_turn_in_which_the_clock_was_set_is_as_any_other(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    real = time.time
    records: list[Record] = []
    log = LatencyLog("s", "websocket", records.append)
    now = log.clock()
    log.turn_ended(TurnEnded("hello", speech_end=now - 0.2, transcript_at=now - 0.1, commit_at=now))
    generation = log.generation_started()
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    generation.first_token = generation.first_audio = log.clock()
    log.reply_sent()
    (record,) = records
    stages = [record[stage] for stage in ("commit", "transcript", "first_token", "first_audio", "sent")]
    assert all(isinstance(seconds, float) and 0 <= seconds < 60 for seconds in stages), record
