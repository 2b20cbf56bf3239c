"""Every turn answered aloud leaves one record; its offsets count from the end of speech."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from conversation.ear import TurnEnded
from conversation.latency import LatencyHistograms, LatencyLog, Record

TURN = TurnEnded(text="hello", speech_end=100.0, transcript_at=100.12, commit_at=100.2)


@pytest.fixture
def published() -> list[Record]:
    return []


@pytest.fixture
def log(published: list[Record]) -> LatencyLog:
    return LatencyLog("s1", "websocket", published.append, LatencyHistograms(CollectorRegistry()))


def test_a_turn_is_recorded_when_its_answer_is_sent(log: LatencyLog, published: list[Record]) -> None:
    generation = log.generation_started()
    generation.first_token, generation.first_audio = 100.13, 100.15
    log.turn_ended(TURN)
    log.reply_sent(100.21)
    assert published == [
        {
            "turn": 1,
            "session": "s1",
            "speech_end": 100.0,
            "commit": 0.2,
            "transcript": 0.12,
            "first_token": 0.13,
            "first_audio": 0.15,
            "sent": 0.21,
            "heard": None,
        }
    ]


def test_the_steps_of_the_critical_path_are_in_order(log: LatencyLog, published: list[Record]) -> None:
    generation = log.generation_started()
    generation.first_token, generation.first_audio = 100.22, 100.25
    log.turn_ended(TURN)
    log.reply_sent(100.26)
    log.heard(1, 100.3)
    path = [published[-1][stage] for stage in ("commit", "first_audio", "sent", "heard")]
    assert path == sorted(path)  # type: ignore[type-var]


def test_a_record_is_published_again_when_the_client_reports(log: LatencyLog, published: list[Record]) -> None:
    log.generation_started()
    log.turn_ended(TURN)
    log.reply_sent(100.21)
    log.heard(1, 100.35)
    assert [record["heard"] for record in published] == [None, 0.35]
    assert published[1]["turn"] == 1


def test_work_ahead_shows_as_negative_offsets(log: LatencyLog, published: list[Record]) -> None:
    generation = log.generation_started()
    generation.first_token = 99.9
    log.turn_ended(TURN)
    log.reply_sent(100.21)
    assert published[0]["first_token"] == -0.1


def test_a_greeting_leaves_no_record(log: LatencyLog, published: list[Record]) -> None:
    log.reply_sent(50.0)
    assert published == []


def test_a_report_on_an_unknown_turn_is_refused(log: LatencyLog) -> None:
    with pytest.raises(LookupError, match="no turn 7"):
        log.heard(7, 1.0)
