"""How many codes the next chunk of sound takes: few at first, then as many as playback can wait for.

The engine makes one code per stream and step, and turns a stream's codes into sound a chunk at a time. A small first
chunk is heard soon; a larger one costs less. A stream's chunk has to be there before playback has used up what it was
sent, at the engine's present speed; where the engine is slower than speech, the first chunk holds back as much as
playback will gain on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engines.types import SPOKEN_RATE

CODE_SECONDS = 1024 / 22050
"""How long one code sounds."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the engine is now, in seconds."""

    step: float
    """A step, which makes a code for each stream."""
    code: float
    """What each further code of a chunk costs in the vocoder."""
    call: float = 0.0
    """What a call of the vocoder costs whatever its length."""
    streams: int = 1

    @property
    def whole_code(self) -> float:
        """From one code of a stream to its next, sound included, with the work for all other streams."""
        return self.step + self.streams * self.code


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """The limits of chunks, in codes, and how carefully playback is kept supplied."""

    smallest: int = 4
    largest: int = 24
    """Also how long others may have to wait for a step: a chunk is vocoded between two of them."""
    spare: float = 0.25
    """Share of what playback has left that is never planned with: steps vary."""
    spare_to_the_end: float = 0.05
    """The same for all of a speech to its end, over which steps even out."""
    lag: int = 3
    """Codes by which the vocoder's first sound lags behind."""

    def next_chunk(self, speed: Speed, waiting: int, left: float | None, expected: int | None = None) -> int:
        """How many codes the next chunk takes; it is due once so many wait. Cheap enough to be asked after every step.

        Args:
            speed: The engine's present speed.
            waiting: Codes of the stream that are made already but not sent as sound.
            left: Seconds of sound sent but not played yet, negative where playback ran dry; None before the first.
            expected: How many codes the stream has yet to make, those that wait included, as far as one can tell.
        """
        if left is None or left <= 0:
            return self._fresh(speed, 0 if left is not None else self.lag, expected)
        in_time = (left * (1 - self.spare) - speed.call + waiting * (speed.whole_code - speed.code)) / speed.whole_code
        return min(max(math.floor(in_time), self.smallest), self.largest)

    def _fresh(self, speed: Speed, lag: int, expected: int | None) -> int:
        """The chunk that begins playback, after silence: what it holds must last until the next one comes."""
        played = CODE_SECONDS * (1 - self.spare)
        next_one = self.smallest * speed.whole_code + speed.call
        chunk = max(self.smallest, lag + math.ceil(next_one / played))
        if expected is None:
            return chunk if speed.whole_code < CODE_SECONDS else max(chunk, self.largest)
        per_code = CODE_SECONDS * (1 - self.spare_to_the_end) / speed.whole_code
        to_the_end = expected - per_code * (expected - self.smallest - lag) if per_code < 1 else 0
        return min(max(chunk, math.ceil(to_the_end)), max(expected, 1))


def gap_free_first_audio(arrivals: Sequence[tuple[float, int]]) -> float:
    """The earliest moment at which playback could have started and never have run dry.

    Args:
        arrivals: When each chunk came, in seconds, and its samples at 24 kHz; in order.

    Raises:
        ValueError: No sound came at all.
    """
    start, sent = -math.inf, 0
    for moment, samples in arrivals:
        if samples:
            start = max(start, moment - sent / SPOKEN_RATE)
            sent += samples
    if not sent:
        raise ValueError("no sound came")
    return start
