"""What the ear says about scripted sound: when turns begin, are sent ahead, end, or never were any."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest

from conversation.detectors import DetectorTiming, Window
from conversation.ear import (
    PRE_ROLL,
    Ear,
    EarEvent,
    EarFailed,
    Partial,
    Preflight,
    SpeechGoesOn,
    SpeechRejected,
    SpeechStarted,
    TurnEnded,
)
from conversation.turn_policy import TurnPolicy
from engines.types import (
    HEARD_RATE,
    Audio,
    Capacity,
    EngineFull,
    EngineInfo,
    EngineUnavailable,
    Health,
    LiveTranscription,
    Transcript,
)

WINDOW = 0.02
SAMPLES = int(HEARD_RATE * WINDOW)


class ScriptedDetector:
    """Sound of value 1 is speech, 0 is silence."""

    def __init__(self, timing: DetectorTiming | None = None) -> None:
        self.timing = timing or DetectorTiming(onset=0.04)

    def push(self, audio: Audio) -> list[Window]:
        return [Window(audio[i : i + SAMPLES], bool(audio[i] > 0)) for i in range(0, len(audio) - SAMPLES + 1, SAMPLES)]

    def reset(self) -> None:
        pass


@dataclass
class ScriptedUtterance:
    """Understands one word for every 0.1 s of speech it is given."""

    words: list[str]
    slow: asyncio.Event | None = None
    failing: bool = False
    given: list[Audio] = field(default_factory=list)
    settles: int = 0
    cancelled: bool = False

    @property
    def seconds(self) -> float:
        return sum(map(len, self.given)) / HEARD_RATE

    @property
    def text(self) -> str:
        speech = sum(float(np.sum(audio > 0)) for audio in self.given) / HEARD_RATE
        return " ".join(self.words[: round(speech / 0.1)])

    def push(self, audio: Audio) -> None:
        self.given.append(audio)

    async def settle(self) -> str:
        self.settles += 1
        text = self.text
        if self.slow is not None:
            await self.slow.wait()
        if self.failing:
            raise EngineUnavailable("the recognizer is gone")
        return text

    async def finish(self) -> Transcript:
        return Transcript(await self.settle(), "en")

    async def cancel(self) -> None:
        self.cancelled = True


class ScriptedTranscriber:
    info = EngineInfo("stt", "scripted", "scripted", "cpu", "none")
    capacity = Capacity(0, None)

    def __init__(self, words: str = "one two three four five six seven eight", full: bool = False) -> None:
        self.words = words.split()
        self.full = full
        self.slow: asyncio.Event | None = None
        self.failing = False
        self.opened: list[ScriptedUtterance] = []

    async def start(self) -> None:
        pass

    async def health(self) -> Health:
        return Health(True)

    async def aclose(self) -> None:
        pass

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        return Transcript(" ".join(self.words), "en")

    def stream(self, language: str | None = None) -> LiveTranscription:
        if self.full:
            raise EngineFull("no place is free", retry_after=1.0)
        self.opened.append(ScriptedUtterance(self.words, self.slow, self.failing))
        return self.opened[-1]


class Listening:
    """An ear, what is played to it, and what it said."""

    def __init__(self, transcriber: ScriptedTranscriber | None = None, timing: DetectorTiming | None = None) -> None:
        self.now = 1000.0
        self.transcriber = transcriber or ScriptedTranscriber()
        self.ear = Ear(
            self.transcriber,
            ScriptedDetector(timing),
            TurnPolicy(speculate_after=0.1, commit_after=0.2, commit_after_unfinished=0.6),
            clock=lambda: self.now,
        )
        self.events: list[EarEvent] = []
        self.ear.subscribe(self.events.append)

    async def play(self, *pieces: float) -> None:
        """Seconds of sound: positive speech, negative silence."""
        for seconds in pieces:
            for _ in range(round(abs(seconds) / WINDOW)):
                self.ear.push(np.full(SAMPLES, 1.0 if seconds > 0 else 0.0, np.float32))
                self.now += WINDOW
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    def said(self, *kinds: type) -> list[EarEvent]:
        return [event for event in self.events if isinstance(event, kinds)]


async def test_silence_says_nothing() -> None:
    listening = Listening()
    await listening.play(-2.0)
    assert listening.events == []


async def test_a_click_shorter_than_the_onset_is_not_speech() -> None:
    listening = Listening()
    await listening.play(-0.5, 0.02, -0.5)
    assert listening.events == []


async def test_a_turn_is_sent_ahead_at_a_short_silence_and_committed_at_a_longer_one() -> None:
    listening = Listening()
    await listening.play(-0.5, 0.4, -0.12)
    assert listening.said(Preflight) == [Preflight("one two three four")]
    assert listening.said(TurnEnded) == []
    await listening.play(-0.2)
    (turn,) = listening.said(TurnEnded)
    assert isinstance(turn, TurnEnded)
    assert turn.text == "one two three four"
    assert turn.speech_end < turn.transcript_at < turn.commit_at
    assert turn.commit_at - turn.speech_end == pytest.approx(0.2, abs=0.021)
    assert not listening.ear.hearing


async def test_the_order_is_start_then_words_then_turn() -> None:
    listening = Listening()
    await listening.play(-0.5, 0.4, -0.4)
    kinds = [type(event) for event in listening.events if not isinstance(event, SpeechGoesOn)]
    assert kinds[0] is SpeechStarted
    assert kinds[-1] is TurnEnded
    assert set(kinds[1:-1]) == {Partial, Preflight}


async def test_sound_before_the_onset_is_given_to_the_recognizer() -> None:
    listening = Listening()
    await listening.play(-2.0, 0.1)
    (utterance,) = listening.transcriber.opened
    assert utterance.seconds == pytest.approx(PRE_ROLL + 0.1 - 0.04, abs=0.03)


async def test_speech_after_a_pause_voids_what_was_settled_and_loses_no_sound() -> None:
    listening = Listening()
    await listening.play(-0.5, 0.2, -0.14, 0.2, -0.4)
    assert listening.said(Preflight) == [Preflight("one two"), Preflight("one two three four")]
    (turn,) = listening.said(TurnEnded)
    assert isinstance(turn, TurnEnded)
    assert turn.text == "one two three four"
    (utterance,) = listening.transcriber.opened
    # Everything from the pre-roll to the settling of the whole: both stretches of speech and the pause between.
    assert utterance.seconds == pytest.approx(PRE_ROLL - 0.04 + 0.2 + 0.14 + 0.2 + 0.1, abs=0.05)


async def test_the_recognizer_gets_nothing_after_the_text_it_settled() -> None:
    listening = Listening()
    await listening.play(-0.5, 0.2, -0.12)
    (utterance,) = listening.transcriber.opened
    settled = utterance.seconds
    await listening.play(-0.06)
    assert utterance.seconds == settled
    assert utterance.settles == 1


async def test_words_that_sound_unfinished_keep_the_turn_open() -> None:
    listening = Listening(ScriptedTranscriber("i want to"))
    await listening.play(-0.5, 0.3, -0.4)
    assert listening.said(TurnEnded) == []
    await listening.play(-0.3)
    assert len(listening.said(TurnEnded)) == 1


async def test_speech_without_words_is_rejected_at_the_first_short_silence() -> None:
    listening = Listening(ScriptedTranscriber(""))
    await listening.play(-0.5, 0.3, -0.14)
    assert len(listening.said(SpeechRejected)) == 1
    assert listening.said(TurnEnded, Preflight) == []
    assert listening.transcriber.opened[0].cancelled


async def test_a_slow_recognizer_commits_as_soon_as_its_text_is_there() -> None:
    transcriber = ScriptedTranscriber()
    transcriber.slow = asyncio.Event()
    listening = Listening(transcriber)
    await listening.play(-0.5, 0.3, -0.6)
    assert listening.said(TurnEnded) == []
    transcriber.slow.set()
    await asyncio.sleep(0.01)
    assert [event.text for event in listening.said(TurnEnded) if isinstance(event, TurnEnded)] == ["one two three"]


async def test_a_late_answer_about_a_pause_that_ended_is_ignored() -> None:
    transcriber = ScriptedTranscriber()
    transcriber.slow = asyncio.Event()
    listening = Listening(transcriber)
    await listening.play(-0.5, 0.2, -0.12, 0.2)
    transcriber.slow.set()
    await asyncio.sleep(0.01)
    assert listening.said(Preflight) == []
    await listening.play(-0.3)
    assert listening.said(Preflight) == [Preflight("one two three four")]


async def test_a_full_engine_is_reported_and_the_next_turn_is_heard() -> None:
    listening = Listening(ScriptedTranscriber(full=True))
    await listening.play(-0.5, 0.3, -0.3)
    (failed,) = listening.said(EarFailed)
    assert isinstance(failed, EarFailed)
    assert failed.error.code == "full"
    assert len(listening.said(SpeechStarted)) == len(listening.said(SpeechRejected)) == 1
    listening.transcriber.full = False
    await listening.play(0.3, -0.3)
    assert len(listening.said(TurnEnded)) == 1


async def test_a_lost_utterance_is_reported_and_rejected_once() -> None:
    transcriber = ScriptedTranscriber()
    transcriber.failing = True
    listening = Listening(transcriber)
    await listening.play(-0.5, 0.3, -0.4)
    assert len(listening.said(EarFailed)) == len(listening.said(SpeechRejected)) == 1
    assert listening.said(TurnEnded) == []


async def test_a_detector_with_its_own_silence_ends_turns_by_it() -> None:
    timing = DetectorTiming(onset=0.0, min_speech=0.3, silence=0.4, max_utterance=10.0)
    listening = Listening(ScriptedTranscriber("i want to"), timing)
    await listening.play(-0.5, 0.4, -0.38)
    assert listening.said(TurnEnded) == []
    await listening.play(-0.06)
    assert len(listening.said(TurnEnded)) == 1


async def test_speech_shorter_than_the_detectors_minimum_is_dropped() -> None:
    listening = Listening(timing=DetectorTiming(onset=0.0, min_speech=0.3, silence=0.4))
    await listening.play(-0.5, 0.2, -0.6)
    assert listening.said(TurnEnded) == []
    assert len(listening.said(SpeechRejected)) == 1


async def test_an_utterance_longer_than_the_detectors_maximum_is_committed_while_speech_goes_on() -> None:
    listening = Listening(timing=DetectorTiming(onset=0.0, silence=0.4, max_utterance=0.5))
    await listening.play(-0.5, 1.2)
    turns = [event.text for event in listening.said(TurnEnded) if isinstance(event, TurnEnded)]
    assert len(turns) == 2


async def test_reset_drops_the_utterance_without_an_event_and_frees_its_place() -> None:
    listening = Listening()
    await listening.play(-0.5, 0.3)
    before = len(listening.events)
    await listening.ear.aclose()
    assert len(listening.events) == before
    assert listening.transcriber.opened[0].cancelled
