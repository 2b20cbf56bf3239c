"""Whose microphone is heard: the first human, and others when they speak and it is silent."""

from __future__ import annotations

from agent.floor import HISTORY, PRE_ROLL, RELEASE, Floor, VoiceActivity

STEP = 0.02
SPEECH, QUIET = 0.1, 0.0005


class Room:
    """Feeds a floor with 20 ms sounds labelled (identity, index) on a clock of its own."""

    def __init__(self, *identities: str) -> None:
        self.floor: Floor[tuple[str, int]] = Floor()
        self.at = 0.0
        self.index = 0
        self.heard: list[tuple[str, int]] = []
        for identity in identities:
            self.floor.join(identity)

    def play(self, seconds: float, **levels: float) -> list[tuple[str, int]]:
        """Everybody sounds at their level for a while; gives what was heard meanwhile."""
        start = len(self.heard)
        for _ in range(round(seconds / STEP)):
            for identity, level in levels.items():
                self.heard += self.floor.take(identity, (identity, self.index), level, self.at, STEP)
            self.at += STEP
            self.index += 1
        return self.heard[start:]


def who(heard: list[tuple[str, int]]) -> set[str]:
    return {identity for identity, _ in heard}


def test_the_first_human_is_heard_from_the_first_sound_on_even_when_silent() -> None:
    room = Room("ann", "bob")
    assert room.play(0.2, ann=QUIET, bob=QUIET) == [("ann", i) for i in range(10)]


def test_another_is_heard_when_they_speak_and_it_is_silent() -> None:
    room = Room("ann", "bob")
    room.play(1.0, ann=QUIET, bob=QUIET)
    assert who(room.play(0.5, ann=QUIET, bob=SPEECH)[-10:]) == {"bob"}


def test_a_new_speaker_is_heard_from_before_their_first_word() -> None:
    room = Room("ann", "bob")
    room.play(2.0, ann=QUIET, bob=QUIET)
    onset = room.index
    heard = [index for identity, index in room.play(0.5, ann=QUIET, bob=SPEECH) if identity == "bob"]
    assert heard[0] == onset - round(PRE_ROLL / STEP)
    assert heard == list(range(heard[0], heard[-1] + 1)), "no sound is missing or doubled"


def test_one_who_speaks_keeps_the_floor_until_they_fall_silent() -> None:
    room = Room("ann", "bob")
    room.play(1.0, ann=SPEECH, bob=QUIET)
    assert who(room.play(2.0, ann=SPEECH, bob=SPEECH)) == {"ann"}


def test_a_pause_between_words_does_not_lose_the_floor() -> None:
    room = Room("ann", "bob")
    room.play(1.0, ann=SPEECH, bob=QUIET)
    assert who(room.play(RELEASE - 0.1, ann=QUIET, bob=SPEECH)) == {"ann"}
    assert who(room.play(1.0, ann=SPEECH, bob=SPEECH)) == {"ann"}


def test_a_second_speaker_gets_the_floor_when_the_first_falls_silent_with_all_they_said_since() -> None:
    room = Room("ann", "bob")
    room.play(1.0, ann=SPEECH, bob=QUIET)
    silent_from = room.index
    heard = [index for identity, index in room.play(1.0, ann=QUIET, bob=SPEECH) if identity == "bob"]
    assert heard[0] == silent_from, "what was spoken over the other is not heard, what came after is"
    assert heard == list(range(silent_from, room.index))


def test_the_floor_goes_back_to_the_first_human_when_the_other_falls_silent() -> None:
    room = Room("ann", "bob")
    room.play(1.0, ann=QUIET, bob=QUIET)
    room.play(1.0, ann=QUIET, bob=SPEECH)
    room.play(RELEASE + 0.1, ann=QUIET, bob=QUIET)
    assert who(room.play(0.2, ann=QUIET, bob=QUIET)) == {"ann"}


def test_words_are_theirs_who_spoke_last_also_when_the_floor_has_gone_back() -> None:
    room = Room("ann", "bob")
    room.play(1.0, ann=QUIET, bob=QUIET)
    assert room.floor.speaker is None
    room.play(1.0, ann=QUIET, bob=SPEECH)
    room.play(RELEASE + 0.5, ann=QUIET, bob=QUIET)
    assert (room.floor.holder, room.floor.speaker) == ("ann", "bob")
    room.play(0.5, ann=SPEECH, bob=QUIET)
    assert room.floor.speaker == "ann"


def test_a_click_is_no_speech() -> None:
    room = Room("ann", "bob")
    room.play(1.0, ann=QUIET, bob=QUIET)
    room.play(STEP, ann=QUIET, bob=SPEECH)
    assert who(room.play(0.5, ann=QUIET, bob=QUIET)) == {"ann"}


def test_steady_noise_of_another_does_not_keep_the_first_human_out() -> None:
    room = Room("ann", "bob")
    room.play(6.0, ann=QUIET, bob=0.03)
    assert who(room.play(0.5, ann=SPEECH, bob=0.03)[-10:]) == {"ann"}


def test_the_next_one_is_first_when_the_first_human_has_left() -> None:
    room = Room("ann", "bob")
    room.play(0.5, ann=QUIET, bob=QUIET)
    room.floor.leave("ann")
    assert room.floor.first == "bob"
    assert who(room.play(0.2, bob=QUIET)) == {"bob"}


def test_a_speaker_whose_sound_stops_coming_loses_the_floor() -> None:
    room = Room("ann", "bob")
    room.play(1.0, ann=SPEECH, bob=QUIET)
    assert who(room.play(0.6, bob=SPEECH)) == {"bob"}


def test_of_the_unheard_only_the_last_moments_are_kept() -> None:
    room = Room("ann", "bob")
    room.play(1.0, ann=SPEECH, bob=QUIET)
    room.play(60.0, ann=SPEECH, bob=QUIET)
    assert len(room.floor._present["bob"].unheard) <= HISTORY / STEP + 2


def test_sounds_of_someone_who_is_not_in_the_room_are_dropped() -> None:
    assert Room("ann").play(0.5, eve=SPEECH) == []


def test_voice_activity_follows_speech_with_gaps() -> None:
    activity = VoiceActivity()
    at = 0.0
    for _ in range(20):  # syllables of 0.16 s with gaps of 0.06 s
        for level, length in ((SPEECH, 8), (QUIET, 3)):
            for _ in range(length):
                activity.feed(level, at, STEP)
                at += STEP
        assert activity.speaking
    for _ in range(round((RELEASE + 0.1) / STEP)):
        activity.feed(QUIET, at, STEP)
        at += STEP
    assert not activity.speaking
