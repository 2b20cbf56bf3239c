"""`AudioSpeechDetector`: finds utterances in a stream of sound by its energy alone.

    detector = AudioSpeechDetector()
    for chunk in microphone:                          # 16-bit PCM bytes or arrays, any length
        for utterance in detector.process_audio(chunk):
            transcribe(utterance.audio)

Pure and synchronous: no clock, no I/O; its time is that of the sound it was fed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]
Chunk: TypeAlias = bytes | bytearray | memoryview | NDArray[np.int16] | NDArray[np.float32] | NDArray[np.float64]

WINDOW = 0.02
"""Seconds over which energy is measured."""
PRE_ROLL = 0.2
"""Seconds kept from before speech was found, so that soft onsets aren't clipped."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """20 ms of sound and whether somebody speaks in it.

    Attributes:
        samples: Mono float32 in [-1, 1], shape (n,).
        rms: Root mean square, full scale 1.0.
        speech: Whether that reaches the threshold.
        end: Seconds from the start of all sound to this window's end.
    """

    samples: Samples
    rms: float
    speech: bool
    end: float


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A whole utterance: pre-roll, speech, and the silence that ended it.

    Attributes:
        audio: Mono float32 in [-1, 1] at the detector's sample rate, shape (n,).
        speech_start: Seconds from the start of all sound to the first speech in it.
        speech_end: The same for the end of its last speech.
        speech: Seconds of speech in it.
        cut: Whether it reached the longest recording; what is said next continues it.
    """

    audio: Samples
    speech_start: float
    speech_end: float
    speech: float
    cut: bool = False

    @property
    def pcm(self) -> bytes:
        """The audio as 16-bit little-endian PCM."""
        return np.round(np.clip(self.audio, -1.0, 32767 / 32768) * 32768).astype("<i2").tobytes()


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began `at` so many seconds from the start of all sound."""

    at: float


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """Speech ended `at` so many seconds; `utterance` is None where it was too short to be one."""

    at: float
    utterance: Utterance | None


Event: TypeAlias = SpeechStarted | SpeechEnded


class AudioSpeechDetector:
    """Finds speech by energy and cuts the sound into utterances.

    An utterance begins with a window of 20 ms whose RMS reaches the threshold, and ends after
    `max_silence_duration` without one, or at `max_recording_duration`.

    Args:
        sample_rate: Of the sound in and out, in Hz.
        energy_threshold: RMS that counts as speech, full scale 1.0. Adjust for ambient noise.
        min_speech_duration: Utterances with less speech than this, in seconds, are dropped.
        max_silence_duration: Seconds of silence that end an utterance.
        max_recording_duration: Longest utterance in seconds, its pre-roll included; speech that goes on
            is the next one.

    Raises:
        ValueError: A parameter makes no sense; the message says which and why.
    """

    def __init__(
        self,
        sample_rate: int = 16_000,
        energy_threshold: float = 0.1,
        min_speech_duration: float = 0.3,
        max_silence_duration: float = 0.4,
        max_recording_duration: float = 10.0,
    ) -> None:
        if sample_rate * WINDOW < 1:
            raise ValueError(f"sample_rate is {sample_rate} Hz; it must be at least {round(1 / WINDOW)}")
        for name, value in (
            ("energy_threshold", energy_threshold),
            ("min_speech_duration", min_speech_duration),
            ("max_silence_duration", max_silence_duration),
        ):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}; it must be 0 or more")
        if not max(min_speech_duration, WINDOW) <= max_recording_duration < float("inf"):
            raise ValueError(
                f"max_recording_duration is {max_recording_duration} s; it must be at least {WINDOW} s "
                f"and no less than min_speech_duration, {min_speech_duration} s"
            )
        self.sample_rate = sample_rate
        self.energy_threshold = energy_threshold
        self.min_speech_duration = min_speech_duration
        self.max_silence_duration = max_silence_duration
        self.max_recording_duration = max_recording_duration
        self._window = round(sample_rate * WINDOW)
        self._longest = max(1, int(max_recording_duration * sample_rate + 1e-6) // self._window)
        self._pre_roll: deque[Samples] = deque(maxlen=min(round(PRE_ROLL / WINDOW), self._longest - 1))
        self.reset()

    # --- state -------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget all sound, an utterance under way too, and start again at time 0."""
        self._half_sample = b""
        self._rest: Samples = np.zeros(0, np.float32)
        self._seen = 0
        self._continues = 0
        self._start_quiet()

    def _start_quiet(self) -> None:
        self._pre_roll.clear()
        self._recording: list[Samples] = []
        self._started_at = 0.0
        self._last_speech_at = 0.0
        self._speech = 0
        self._silence = 0

    @property
    def state(self) -> Literal["silence", "speech"]:
        """`speech` from an utterance's first speech until the silence that ends it is over."""
        return "speech" if self._recording else "silence"

    @property
    def time(self) -> float:
        """Seconds of sound judged so far; less than a window may wait for more."""
        return self._seen / self.sample_rate

    @property
    def speech_duration(self) -> float:
        """Seconds of speech in the utterance under way."""
        return self._speech * self._window / self.sample_rate

    @property
    def silence_duration(self) -> float:
        """Seconds since the last speech of the utterance under way."""
        return self._silence * self._window / self.sample_rate

    @property
    def recording_duration(self) -> float:
        """Seconds of the utterance under way, its pre-roll included."""
        return len(self._recording) * self._window / self.sample_rate

    # --- sound -------------------------------------------------------------------------------------------

    def process_audio(self, chunk: Chunk) -> list[Utterance]:
        """Hear a chunk; gives the utterances that ended in it.

        Args:
            chunk: 16-bit little-endian PCM bytes (half a sample is kept for the next bytes), or an
                array of int16 or of floats in [-1, 1], shape (n,), any length.

        Raises:
            ValueError: An array of another shape.
            TypeError: Anything else.
        """
        return [event.utterance for event in self.feed(chunk) if isinstance(event, SpeechEnded) and event.utterance]

    def feed(self, chunk: Chunk) -> list[Event]:
        """Hear a chunk, as `process_audio`; gives starts and ends of speech in order."""
        events: list[Event] = []
        for window in self.windows(chunk):
            self._follow(window, events)
        return events

    def flush(self) -> Utterance | None:
        """End the utterance under way, if any, as at the end of the sound; gives it if it is long enough."""
        if self._recording and len(self._rest):
            self._recording.append(self._rest)
        self._seen += len(self._rest)
        self._rest = np.zeros(0, np.float32)
        self._half_sample = b""
        utterance = self._finish(cut=False) if self._recording else None
        self._continues = 0
        return utterance

    def windows(self, chunk: Chunk) -> Iterator[Window]:
        """Judge a chunk in windows of 20 ms without following utterances; less than one is kept for the next chunk.

        For callers with turn rules of their own; use either this or `process_audio` and `feed`.
        """
        sound = self._samples(chunk)
        if len(self._rest):
            sound = np.concatenate((self._rest, sound))
        count = len(sound) // self._window
        pieces = sound[: count * self._window].reshape(count, self._window)
        self._rest = sound[count * self._window :].copy()
        for piece, rms in zip(pieces, np.sqrt(np.mean(np.square(pieces), axis=1)).tolist(), strict=True):
            self._seen += self._window
            yield Window(piece, rms, rms >= self.energy_threshold, self._seen / self.sample_rate)

    def _samples(self, chunk: Chunk) -> Samples:
        if isinstance(chunk, bytes | bytearray | memoryview):
            data = self._half_sample + bytes(chunk)
            whole = len(data) - len(data) % 2
            self._half_sample = data[whole:]
            return np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32768)
        if not isinstance(chunk, np.ndarray) or chunk.dtype not in (np.int16, np.float32, np.float64):
            what = f"an array of {chunk.dtype}" if isinstance(chunk, np.ndarray) else type(chunk).__name__
            raise TypeError(f"sound comes as 16-bit PCM bytes or an array of int16, float32 or float64, not {what}")
        if chunk.ndim != 1:
            raise ValueError(f"sound is mono, an array of shape (n,), not {chunk.shape}")
        if chunk.dtype == np.int16:
            return chunk.astype(np.float32) / np.float32(32768)
        return chunk.astype(np.float32)

    # --- utterances --------------------------------------------------------------------------------------

    def _follow(self, window: Window, events: list[Event]) -> None:
        if not self._recording:
            if not window.speech:
                self._continues = 0
                self._pre_roll.append(window.samples)
                return
            self._recording = list(self._pre_roll)
            self._started_at = window.end - self._window / self.sample_rate
            events.append(SpeechStarted(self._started_at))
        self._recording.append(window.samples)
        if window.speech:
            self._speech += 1
            self._silence = 0
            self._last_speech_at = window.end
        else:
            self._silence += 1
        full = len(self._recording) >= self._longest
        quiet = self._silence > 0 and self.silence_duration >= self.max_silence_duration - 1e-6
        if full or quiet:
            at = self._last_speech_at
            events.append(SpeechEnded(at, self._finish(cut=not quiet)))

    def _finish(self, *, cut: bool) -> Utterance | None:
        """Close the recording; speech before a cut counts towards the least an utterance must have."""
        spoken = (self._continues + self._speech) * self._window / self.sample_rate
        utterance = Utterance(
            audio=np.concatenate(self._recording),
            speech_start=self._started_at,
            speech_end=self._last_speech_at,
            speech=self.speech_duration,
            cut=cut,
        )
        self._continues = self._continues + self._speech if cut else 0
        self._start_quiet()
        return utterance if spoken >= self.min_speech_duration - 1e-6 else None
