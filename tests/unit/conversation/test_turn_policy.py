"""The turn policy judges words, not clocks."""

from __future__ import annotations

import pytest

from conversation.turn_policy import Known, Timing, TurnPolicy, sounds_unfinished


@pytest.mark.parametrize(
    "text",
    [
        "i would like to",
        "my number is the",
        "we went there and",
        "so um",
        "can you tell me",
        "first, second,",
        "tell me the",
    ],
)
def test_words_that_go_on_sound_unfinished(text: str) -> None:
    assert sounds_unfinished(text)


@pytest.mark.parametrize(
    "text",
    [
        "what is the capital of france",
        "yes",
        "tell me a story",
        "who are you",
        "i like it.",
        "where do you come from?",
        "",
    ],
)
def test_words_that_may_end_a_turn_do_not(text: str) -> None:
    assert not sounds_unfinished(text)


def test_other_languages_are_judged_by_punctuation_only() -> None:
    assert not sounds_unfinished("und dann the", "de")
    assert sounds_unfinished("und dann,", "de")


def test_an_unfinished_turn_waits_longer_and_patience_stretches_both() -> None:
    policy = TurnPolicy(speculate_after=0.1, commit_after=0.2, commit_after_unfinished=0.9)
    assert policy.timing(Known("yes please")) == Timing(0.1, 0.2)
    assert policy.timing(Known("i want to")) == Timing(0.1, 0.9)
    assert policy.timing(Known("yes please", patience=2.0)) == Timing(0.1, 0.4)


def test_a_reply_is_never_begun_after_the_turn_has_ended() -> None:
    assert TurnPolicy(speculate_after=0.5, commit_after=0.2).timing(Known("yes")) == Timing(0.2, 0.2)
