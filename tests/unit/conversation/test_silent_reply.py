"""Which silences of a reply are faults, and how soon they are found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conversation.silent_reply import LOOK_EVERY, Cause, Seen, SilentReply, cause_of_silence

VOICE_DEADLINE = 3.0
SOUNDING = Seen(under_way=True, playing=True, waiting=True, open=True, making=True)
DRY = Seen(under_way=True, open=True)


def found_after(seen: Seen, looks: int = 100) -> tuple[Cause | None, float]:
    """The cause that is found while everything stays as it is, and the seconds until then."""
    policy = SilentReply(VOICE_DEADLINE)
    for look in range(1, looks + 1):
        if cause := policy.look(seen, LOOK_EVERY):
            return cause, look * LOOK_EVERY
    return None, looks * LOOK_EVERY


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (replace(DRY, waiting=True, paused=True), "paused"),
        (replace(DRY, waiting=True), "not played"),
        (DRY, "not ended"),
    ],
)
def test_a_silence_without_reason_is_found_in_two_seconds(seen: Seen, cause: Cause) -> None:
    found, after = found_after(seen)
    assert found == cause
    assert after <= 2.0


@pytest.mark.parametrize("open_already", [False, True], ids=["before its first sound", "in its middle"])
def test_a_voice_that_makes_no_sound_is_found_soon_after_its_own_deadline(open_already: bool) -> None:
    found, after = found_after(Seen(under_way=True, open=open_already, making=True))
    assert found == "no sound"
    assert VOICE_DEADLINE < after <= VOICE_DEADLINE + 2.0


@pytest.mark.parametrize(
    "seen",
    [
        SOUNDING,
        replace(SOUNDING, paused=True),
        replace(DRY, waiting=True, paused=True, hearing=True),
        replace(DRY, making=True, writing=True),
        Seen(under_way=True),
        Seen(under_way=True, paused=True),
        Seen(under_way=False, waiting=True, open=True, paused=True),
    ],
    ids=[
        "it sounds",
        "what was sent before the pause still sounds",
        "held back while somebody speaks",
        "the chat model still writes",
        "the chat model thinks",
        "held back before there is any sound",
        "nothing is under way",
    ],
)
def test_what_is_no_fault_is_never_found(seen: Seen) -> None:
    assert cause_of_silence(seen) is None
    assert found_after(seen) == (None, 100 * LOOK_EVERY)


def test_one_reply_is_ended_once_and_the_next_one_again() -> None:
    policy = SilentReply(VOICE_DEADLINE)
    assert [policy.look(DRY, LOOK_EVERY) for _ in range(40)].count("not ended") == 1
    policy.look(SOUNDING, LOOK_EVERY)
    assert [policy.look(DRY, LOOK_EVERY) for _ in range(40)].count("not ended") == 1


def test_a_gap_in_the_middle_of_sound_counts_anew_each_time() -> None:
    policy = SilentReply(VOICE_DEADLINE)
    for _ in range(50):
        assert [policy.look(DRY, LOOK_EVERY) for _ in range(4)] == [None] * 4
        policy.look(SOUNDING, LOOK_EVERY)


def test_a_process_that_was_frozen_ends_no_reply_for_it() -> None:
    policy = SilentReply(VOICE_DEADLINE)
    assert policy.look(replace(DRY, waiting=True), 60.0) is None
    assert policy.look(replace(DRY, waiting=True), 60.0) is None
