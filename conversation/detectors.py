"""What finds speech in the microphone's sound: one small interface, two detectors behind it.

A detector is fed sound of any length and answers in windows of its own size. It runs on the event
loop: the Silero window of 32 ms costs about 0.03 ms, less than the hop to a thread would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from livekit.local_inference import VAD, VAD_WINDOW_SAMPLES

from conversation.speech_detector import AudioSpeechDetector
from engines.types import HEARD_RATE, Audio
from settings import Settings


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of sound and whether somebody speaks in it; `audio` is 16 kHz float32."""

    audio: Audio
    speech: bool

    @property
    def duration(self) -> float:
        """Seconds of sound."""
        return len(self.audio) / HEARD_RATE


@dataclass(frozen=True, slots=True)
class DetectorTiming:
    """How a detector wants its windows read.

    Attributes:
        onset: Seconds of speech in a row that begin an utterance.
        min_speech: Utterances with less speech than this, in seconds, are dropped.
        max_utterance: Longest utterance in seconds, after which the turn is committed; None: no limit.
        silence: Seconds of silence that end an utterance whatever its words are; None: the turn policy decides.
        gap: Seconds of silence that may lie within a sentence: before them its words are not settled.
    """

    onset: float
    min_speech: float = 0.0
    max_utterance: float | None = None
    silence: float | None = None
    gap: float = 0.0


class SpeechDetector(Protocol):
    """Finds speech; keeps what is less than a window for the next call."""

    @property
    def timing(self) -> DetectorTiming:
        """How its windows want to be read."""
        ...

    def push(self, audio: Audio) -> list[Window]:
        """Judge 16 kHz sound of any length, in windows."""
        ...

    def reset(self) -> None:
        """Forget what was heard."""
        ...


class SileroDetector:
    """The Silero voice activity model, in windows of 32 ms.

    Source: snakers4/silero-vad v5, as livekit-local-inference carries it.
    """

    timing = DetectorTiming(onset=0.064)

    def __init__(self, activation: float = 0.5, deactivation: float = 0.35) -> None:
        self._model = VAD()
        self._rest: Audio = np.zeros(0, np.float32)
        self._speech = False
        self._activation = activation
        self._deactivation = deactivation

    def push(self, audio: Audio) -> list[Window]:
        """Judge 16 kHz sound of any length, in windows of 512 samples."""
        sound = np.concatenate((self._rest, audio)) if len(self._rest) else audio
        windows = []
        whole = len(sound) - len(sound) % VAD_WINDOW_SAMPLES
        for start in range(0, whole, VAD_WINDOW_SAMPLES):
            piece = sound[start : start + VAD_WINDOW_SAMPLES]
            likely = self._model.predict((np.clip(piece, -1, 1) * 32767).astype(np.int16))
            self._speech = likely > (self._deactivation if self._speech else self._activation)
            windows.append(Window(piece, self._speech))
        self._rest = sound[whole:]
        return windows

    def reset(self) -> None:
        """Forget what was heard."""
        self._model.reset()
        self._rest = np.zeros(0, np.float32)
        self._speech = False


class EnergyDetector:
    """`AudioSpeechDetector` as the ear's detector, its parameters kept."""

    def __init__(self, detector: AudioSpeechDetector) -> None:
        self._detector = detector

    @property
    def timing(self) -> DetectorTiming:
        """The detector's own parameters; its silence rules, not the turn policy."""
        return DetectorTiming(
            onset=0.0,
            min_speech=self._detector.min_speech_duration,
            max_utterance=self._detector.max_recording_duration,
            silence=self._detector.max_silence_duration,
            # Soft sounds and whole soft words are silence to it. A text settled in each such gap would be heard in
            # pieces, without the context that tells words apart.
            gap=0.75 * self._detector.max_silence_duration,
        )

    def push(self, audio: Audio) -> list[Window]:
        """Judge 16 kHz sound of any length, in windows of 20 ms."""
        return [Window(window.samples, window.speech) for window in self._detector.windows(audio)]

    def reset(self) -> None:
        """Forget what was heard."""
        self._detector.reset()


def detector(settings: Settings) -> SpeechDetector:
    """The detector that `DETECTOR` names."""
    turns = settings.turns
    if turns.detector == "vad":
        return SileroDetector()
    return EnergyDetector(
        AudioSpeechDetector(
            sample_rate=HEARD_RATE,
            energy_threshold=turns.energy_threshold,
            min_speech_duration=turns.min_speech_duration,
            max_silence_duration=turns.max_silence_duration,
            max_recording_duration=turns.max_recording_duration,
        )
    )
