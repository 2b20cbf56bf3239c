"""The tail guard: ends speech that runs on after its text is spoken, and cuts what ran on.

XTTS ends by drawing its stop code. Where the draw misses it the speech runs on: into silence, or into babble. Three
signs tell a run-on from speech: what the network itself gave for stopping, trailing quiet, and more codes than the
voice ever needs for so many characters. Speech that stops by itself is never touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from engines.tally import tally
from engines.tts.xtts.chunks import CODE_SECONDS
from engines.types import SPOKEN_RATE, Audio

Reason: TypeAlias = Literal["missed_stop", "trailing_quiet", "too_long"]

_SURVIVAL = 0.02
"""A speech that would have stopped by now in so many of its possible courses but this share has missed its stop."""

_LIKELY = 0.02
"""Probability from which the stop code counts as offered."""
_LIKELIEST = 3
"""Or it is among so many likeliest, with more than next to nothing."""
_SOMETHING = 0.005

_QUIET = 0.6
"""Seconds of quiet after an offered stop that no natural ending has: 0.12 to 0.18."""
_PAUSE = 1.0
"""The same before as many codes as usual, where it could be a pause within the text."""
_DEAD = 2.0
"""Seconds of quiet after which nothing is going to come, offered stop or not."""
_NATURAL = 0.15
"""Seconds of quiet left behind the last sound."""
_JUST_BEFORE = 8
"""Codes before the quiet in which an offered stop belongs to it."""

_FRAME = SPOKEN_RATE // 100
"""Samples over which loudness is measured: 10 ms."""
_BELOW_SPEECH = 0.03
"""Loudness against the loudest frame, under which it is quiet (-30 dB)."""
_AUDIBLE = 0.002

_FADE = round(0.005 * SPOKEN_RATE)

_AROUND = 6
"""Codes of a speech that belong to no character: the breath before it and the quiet after it."""


@dataclass(frozen=True, slots=True)
class Expected:
    """How many codes a text takes: hardly ever fewer than `least`, never more than `most`; `usual` at a guess."""

    least: int
    usual: int
    most: int


class SpeakingRate:
    """Codes per character of one voice in one language, learnt from what it spoke to a normal end.

    Args:
        prior: What to begin with; voices of languages written in syllables need several times more.
    """

    def __init__(self, prior: float = 1.4) -> None:
        self._mean = math.log(prior)
        self._variance = 0.35**2
        self._weight = 3.0

    def learn(self, characters: float, codes: int) -> None:
        """Take up a speech that ended by itself; one that is far off counts as if it were less far."""
        if characters < 1 or codes <= _AROUND:
            return
        deviation = math.sqrt(self._variance)
        off = math.log((codes - _AROUND) / characters) - self._mean
        off = min(max(off, -3 * deviation), 3 * deviation)
        self._weight = min(self._weight + 1, 50)
        self._mean += off / self._weight
        self._variance += (off**2 - self._variance) / self._weight

    def expects(self, characters: float) -> Expected:
        """How many codes so many characters take, the more exactly the more was learnt."""
        deviation = max(math.sqrt(self._variance), 0.12)

        def codes(deviations: float) -> int:
            return round(_AROUND + characters * math.exp(self._mean + deviations * deviation))

        return Expected(max(codes(-2) - _AROUND, 1), codes(0), codes(3) + 4 * _AROUND)


class TailGuard:
    """Watches one speech: `step` after each code, `sound` before each chunk is sent, `finish` before the last one.

    Args:
        expected: How many codes its text takes.
        rate: How much faster than the voice's own speed it is spoken.
    """

    def __init__(self, expected: Expected, rate: float = 1.0) -> None:
        self._expected = expected
        self._code_seconds = CODE_SECONDS / rate
        self._codes = 0
        self._survival = 1.0
        self._best = 0.0
        self._best_end = 0
        self._offered = -math.inf
        self._rest: Audio = np.zeros(0, np.float32)
        self._heard = 0
        self._loudest = _AUDIBLE
        self._loud_until = 0
        self._keep = 0
        self.reason: Reason | None = None
        """Why the speech has to end, once it has to."""

    def step(self, stop_rank: int, stop_probability: float) -> Reason | None:
        """Take up what the network gave for stopping where it made another code instead.

        Returns:
            Why the speech has to end here, or None.
        """
        self._codes += 1
        if self.reason or self._codes < self._expected.least:
            return self.reason
        self._survival *= 1 - min(max(stop_probability, 0.0), 1.0)
        if stop_probability >= _LIKELY or (stop_rank < _LIKELIEST and stop_probability >= _SOMETHING):
            self._offered = self._codes
            if stop_probability >= self._best:
                self._best, self._best_end = stop_probability, self._codes
        if self._survival < _SURVIVAL:
            self._end("missed_stop", self._samples(self._best_end))
        elif self._codes > self._expected.most:
            self._end("too_long", self._samples(self._best_end or self._codes))
        return self.reason

    def sound(self, audio: Audio) -> Reason | None:
        """Listen to the next chunk, 24 kHz.

        Returns:
            Why the speech has to end here, or None.
        """
        heard = np.concatenate((self._rest, audio))
        frames = heard[: len(heard) - len(heard) % _FRAME].reshape(-1, _FRAME)
        self._rest = heard[frames.size :]
        if self.reason or not len(frames):
            return self.reason
        loudness = np.sqrt(np.mean(frames**2, axis=1))
        self._loudest = max(self._loudest, float(loudness.max()))
        if len(loud := np.flatnonzero(loudness > max(_AUDIBLE, _BELOW_SPEECH * self._loudest))):
            self._loud_until = self._heard + (int(loud[-1]) + 1) * _FRAME
        self._heard += frames.size
        quiet = (self._heard - self._loud_until) / SPOKEN_RATE
        spoken = self._loud_until / SPOKEN_RATE / self._code_seconds
        offered = self._offered >= spoken - _JUST_BEFORE
        enough = _DEAD if not offered else _QUIET if self._codes >= self._expected.usual else _PAUSE
        if self._loud_until and quiet >= enough:
            self._end("trailing_quiet", self._loud_until + round(_NATURAL * SPOKEN_RATE))
        return self.reason

    def finish(self, audio: Audio, sent: int) -> Audio:
        """The last chunk as it may be sent: whole, or cut and faded where the speech was ended by the guard.

        Args:
            audio: All sound that wasn't sent yet.
            sent: Samples sent before.
        """
        if not self.reason:
            return audio
        tally("trimmed_speeches", reason=self.reason)
        kept = audio[: max(self._keep - sent, _FADE)]
        if len(kept) == len(audio):
            return audio
        fade = min(_FADE, len(kept))
        return np.concatenate((kept[: len(kept) - fade], kept[len(kept) - fade :] * _falling(fade)))

    def _end(self, reason: Reason, keep: int) -> None:
        self.reason, self._keep = reason, keep

    def _samples(self, codes: int) -> int:
        return round(codes * self._code_seconds * SPOKEN_RATE)


def _falling(samples: int) -> Audio:
    return np.linspace(1, 0, samples, dtype=np.float32)
