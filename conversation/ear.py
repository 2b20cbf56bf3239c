"""The ear: one pass over the microphone's sound that decides what was said and when a turn is over.

It owns the only voice activity pass of a conversation and one live utterance of a `Transcriber`, asks
the turn policy when to act, and says what happened as events. It knows nothing of LiveKit: the two
faces that an `AgentSession` sees are in ear_faces.py.

An utterance lives like this: speech begins (the sound just before it is included) - windows are pushed
as they come - at a short silence the text is settled and sent ahead as `Preflight`, on which a reply may
be begun - speech goes on, and the settled text is void; or the silence lasts, and the turn is committed
with exactly the text that was settled. An utterance without words is rejected as soon as that is known.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from conversation.detectors import SpeechDetector, Window
from conversation.turn_policy import Known, TurnPolicy
from engines.types import HEARD_RATE, Audio, EngineError, LiveTranscription, Transcriber

logger = logging.getLogger("voice_node.ear")

PRE_ROLL = 0.4
"""Seconds of sound before the detected onset that belong to the utterance: detectors fire late, words start softly."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody began to speak, `ago` seconds ago."""

    ago: float


@dataclass(frozen=True, slots=True)
class SpeechGoesOn:
    """A window of an utterance: seconds of speech so far, and of silence since its last speech."""

    speech: float
    silence: float
    window: float


@dataclass(frozen=True, slots=True)
class Partial:
    """The words so far; may still change."""

    text: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """The text a turn would have if it ended now."""

    text: str


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn was committed. Times are unix seconds.

    Attributes:
        text: What was said, never empty.
        speech_end: When the last speech was heard.
        transcript_at: When the text was known.
        commit_at: When the ear decided that the turn is over.
    """

    text: str
    speech_end: float
    transcript_at: float
    commit_at: float


@dataclass(frozen=True, slots=True)
class SpeechRejected:
    """What sounded like speech held no words; nothing was said."""


@dataclass(frozen=True, slots=True)
class EarFailed:
    """The engine lost an utterance."""

    error: EngineError


EarEvent = SpeechStarted | SpeechGoesOn | Partial | Preflight | TurnEnded | SpeechRejected | EarFailed
Listener = Callable[[EarEvent], None]


@dataclass
class _Utterance:
    stream: LiveTranscription | None
    speech: float = 0.0
    silence: float = 0.0
    length: float = 0.0
    speech_end: float = 0.0
    text: str = ""
    settling: asyncio.Task[None] | None = None
    settled: str | None = None
    settled_at: float = 0.0
    held: list[Audio] = field(default_factory=list)
    """Silence heard since settling began: pushed only if speech goes on, so that the settled text stays final."""
    full: bool = False
    """Longer than the detector allows: it ends as it is, and what comes belongs to the next one."""
    after: list[Window] = field(default_factory=list)


class Ear:
    """Listens to one conversation. All calls happen on one event loop."""

    def __init__(
        self,
        transcriber: Transcriber,
        detector: SpeechDetector,
        policy: TurnPolicy,
        *,
        language: str = "en",
        patience: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.transcriber = transcriber
        self.language = language
        self.patience = patience
        self._detector = detector
        self._policy = policy
        self._clock = clock
        self._listeners: list[Listener] = []
        self._utterance: _Utterance | None = None
        self._onset = 0.0
        self._pre_roll: deque[Audio] = deque()
        self._pre_roll_length = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def hearing(self) -> bool:
        """Whether an utterance is open."""
        return self._utterance is not None

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Be told every event, in order; returns the way out."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def push(self, audio: Audio) -> None:
        """Hear 16 kHz sound of any length; returns at once."""
        for window in self._detector.push(audio):
            self._hear(window)

    def reset(self) -> None:
        """Drop the utterance under way and forget what was heard, without an event."""
        if self._utterance is not None:
            self._close(self._utterance)
        self._detector.reset()
        self._pre_roll.clear()
        self._pre_roll_length = 0.0

    async def aclose(self) -> None:
        """Drop the utterance under way and wait until the engine has its place back."""
        self.reset()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _hear(self, window: Window) -> None:
        if self._utterance is None:
            self._wait_for_speech(window)
        else:
            self._follow(self._utterance, window)

    # --- quiet -------------------------------------------------------------------------------------------

    def _wait_for_speech(self, window: Window) -> None:
        self._pre_roll.append(window.audio)
        self._pre_roll_length += window.duration
        while self._pre_roll_length > PRE_ROLL and len(self._pre_roll) > 1:
            self._pre_roll_length -= len(self._pre_roll.popleft()) / HEARD_RATE
        self._onset = self._onset + window.duration if window.speech else 0.0
        if window.speech and self._onset >= self._detector.timing.onset:
            self._begin()

    def _begin(self) -> None:
        stream: LiveTranscription | None = None
        try:
            stream = self.transcriber.stream(self.language)
        except EngineError as error:
            # The speaker is followed all the same, so that the reply under way pauses and the next turn is heard.
            self._tell(EarFailed(error))
        utterance = self._utterance = _Utterance(stream, speech=self._onset, length=self._onset)
        utterance.speech_end = self._clock()
        if stream is not None:
            for audio in self._pre_roll:
                stream.push(audio)
        self._pre_roll.clear()
        self._pre_roll_length = 0.0
        self._onset = 0.0
        self._tell(SpeechStarted(utterance.speech))

    # --- an utterance ------------------------------------------------------------------------------------

    def _follow(self, utterance: _Utterance, window: Window) -> None:
        if utterance.full:
            utterance.after.append(window)
            return
        utterance.length += window.duration
        if window.speech:
            utterance.speech += window.duration
            utterance.silence = 0.0
            utterance.speech_end = self._clock()
            self._unsettle(utterance)
        else:
            utterance.silence += window.duration
        if utterance.settling is None:
            self._hand_over(utterance, window.audio)
        else:
            utterance.held.append(window.audio)
        longest = self._detector.timing.max_utterance
        utterance.full = longest is not None and utterance.length >= longest
        self._tell(SpeechGoesOn(utterance.speech, utterance.silence, window.duration))
        if utterance.stream is not None and utterance.settled is None and utterance.stream.text != utterance.text:
            utterance.text = utterance.stream.text
            if utterance.text:
                self._tell(Partial(utterance.text))
        self._decide(utterance)

    def _unsettle(self, utterance: _Utterance) -> None:
        """Speech goes on: what was settled is void, and the silence in between belongs to the utterance."""
        utterance.settling = None
        utterance.settled = None
        for audio in utterance.held:
            self._hand_over(utterance, audio)
        utterance.held.clear()

    def _hand_over(self, utterance: _Utterance, audio: Audio) -> None:
        if utterance.stream is not None:
            utterance.stream.push(audio)

    def _decide(self, utterance: _Utterance) -> None:
        speculate, commit = self._due(utterance)
        if utterance.stream is None:
            if commit:
                self._reject(utterance)
        elif utterance.settling is None:
            if speculate or commit:
                utterance.settling = self._start(self._settle(utterance, utterance.stream))
        elif utterance.settled is not None:
            if not utterance.settled or (commit and utterance.speech < self._detector.timing.min_speech):
                self._reject(utterance)
            elif commit:
                self._commit(utterance, utterance.settled)

    def _due(self, utterance: _Utterance) -> tuple[bool, bool]:
        """Whether it is time to speculate, and whether it is time to commit."""
        of = self._detector.timing
        known = Known(utterance.text if utterance.settled is None else utterance.settled, self.language, self.patience)
        timing = self._policy.timing(known)
        commit_after = timing.commit if of.silence is None else of.silence
        return (
            utterance.silence >= min(max(timing.speculate, of.gap), commit_after),
            utterance.silence >= commit_after or utterance.full,
        )

    async def _settle(self, utterance: _Utterance, stream: LiveTranscription) -> None:
        try:
            text = await stream.settle()
        except EngineError as error:
            if utterance is self._utterance:
                self._tell(EarFailed(error))
                self._reject(utterance)
            return
        if utterance is not self._utterance or utterance.settling is not asyncio.current_task():
            return  # speech went on, or the utterance is gone
        utterance.settled = text
        utterance.settled_at = self._clock()
        if text:
            self._tell(Preflight(text))
        self._decide(utterance)

    def _commit(self, utterance: _Utterance, text: str) -> None:
        self._close(utterance)
        self._tell(
            TurnEnded(
                text=text,
                speech_end=utterance.speech_end,
                transcript_at=utterance.settled_at,
                commit_at=self._clock(),
            )
        )
        self._go_on(utterance)

    def _reject(self, utterance: _Utterance) -> None:
        self._close(utterance)
        self._tell(SpeechRejected())
        self._go_on(utterance)

    def _go_on(self, utterance: _Utterance) -> None:
        """Hear what came after an utterance that was full."""
        for window in utterance.after:
            self._hear(window)

    def _close(self, utterance: _Utterance) -> None:
        self._utterance = None
        if utterance.stream is not None:
            self._start(utterance.stream.cancel())

    # --- plumbing ----------------------------------------------------------------------------------------

    def _tell(self, event: EarEvent) -> None:
        for listener in tuple(self._listeners):
            listener(event)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
