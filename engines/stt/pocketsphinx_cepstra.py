"""The cepstral mean of an utterance's own sound, which PocketSphinx needs before it decodes well.

PocketSphinx subtracts a mean cepstrum from every frame and adapts it only after five seconds or at an
utterance's end, so that a first short utterance is decoded against a foreign loudness and voice, and a
later one against whoever spoke before. Here the mean comes from the utterance itself: from its first
0.4 s of sound, weighted against a middling voice. Word error rate over everyday sentences in four flite
voices: 0.13 as PocketSphinx starts (awb 0.25), 0.06 to 0.07 with this one, whatever the loudness.

The cepstra follow the front end that the en-US model was trained with (its `feat.params`): 25 mel
filters from 130 to 6,800 Hz, 13 coefficients, lifter 22, frames of 25.625 ms every 10 ms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
HOP = 160
"""Samples between two frames (10 ms)."""

_WINDOW = 410
_FFT = 512
_FILTERS = 25
_ORDER = 13
_LIFTER = 22

PRIOR = np.array([49, 2, 6, 24, 0, 0, 4, -4, -3, -3, 6, 1, 1], dtype=np.float64)
"""Mean cepstrum of a middling voice; only its shape counts, the loudness is always the utterance's own."""

PRIOR_FRAMES = 30
"""How many frames of sound the middling voice weighs as much as."""

SOUND_DEPTH = 25.0
"""A frame counts as sound when its loudness is at most this far under the loudest one (about 22 dB)."""

SOUND_FLOOR = 0.002
"""A frame whose RMS is below this (full scale 1.0) is never sound."""


def _mel_filters() -> NDArray[np.float64]:
    """Triangular filters of unit area, shape (25, 257), edges rounded to FFT bins as PocketSphinx does."""
    step = RATE / _FFT
    low, high = 2595 * np.log10(1 + np.array([130.0, 6800.0]) / 700)
    edges = 700 * (10 ** (np.linspace(low, high, _FILTERS + 2) / 2595) - 1)
    edges = np.floor(edges / step + 0.5) * step
    bins = np.arange(_FFT // 2 + 1) * step
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise, fall = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)) * 2 / (right - left))


class Cepstra:
    """Cepstra of a stream of 16-bit samples; keeps what a frame lacks until more arrives."""

    def __init__(self) -> None:
        angles = np.outer(np.arange(_ORDER), np.arange(_FILTERS) + 0.5) * np.pi / _FILTERS
        transform = np.cos(angles) * np.sqrt(2 / _FILTERS)
        transform[0] /= np.sqrt(2)
        transform *= (1 + _LIFTER / 2 * np.sin(np.arange(_ORDER) * np.pi / _LIFTER))[:, None]
        self._filters = _mel_filters().T
        self._transform = transform.T
        self._window = np.hamming(_WINDOW)
        self._rest: NDArray[np.float64] = np.zeros(0)

    def push(self, samples: NDArray[np.int16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Take samples and give the frames they complete.

        Args:
            samples: 16 kHz mono, shape (n,).

        Returns:
            Cepstra, shape (frames, 13), and each frame's RMS with full scale 1.0, shape (frames,).
        """
        # One sample more than a frame is kept, so that pre-emphasis goes on over the border.
        sound: NDArray[np.float64] = np.concatenate([self._rest, samples]).astype(np.float64)
        if len(sound) < _WINDOW + 1:
            self._rest = sound
            return np.zeros((0, _ORDER)), np.zeros(0)
        frames = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW + 1)[::HOP]
        self._rest = sound[len(frames) * HOP :]
        power = np.abs(np.fft.rfft((frames[:, 1:] - 0.97 * frames[:, :-1]) * self._window, _FFT)) ** 2
        cepstra = np.log(np.maximum(power @ self._filters, 1e-5)) @ self._transform
        return cepstra, np.sqrt(np.mean(np.square(frames), axis=1)) / 32768


class CepstralMean:
    """The mean cepstrum of the sound (not the silence) heard so far in one utterance."""

    def __init__(self) -> None:
        self._cepstra = Cepstra()
        self._frames = np.zeros((0, _ORDER))
        self._rms = np.zeros(0)
        self.loudest = -np.inf
        """Highest loudness (coefficient 0) of a frame so far; minus infinity before any."""

    def push(self, samples: NDArray[np.int16]) -> int:
        """Take more of the utterance's samples (16 kHz); give the number of 10 ms frames they completed."""
        cepstra, rms = self._cepstra.push(samples)
        if len(cepstra):
            # Ten seconds are enough to know a voice, and bound the memory of a long utterance.
            self._frames = np.concatenate([self._frames, cepstra])[-1000:]
            self._rms = np.concatenate([self._rms, rms])[-1000:]
            self.loudest = float(np.max(self._frames[:, 0]))
        return len(cepstra)

    def _is_sound(self) -> NDArray[np.bool_]:
        """For each frame kept, whether it is sound, shape (frames,)."""
        return np.asarray((self._frames[:, 0] >= self.loudest - SOUND_DEPTH) & (self._rms >= SOUND_FLOOR))

    def sound_frames(self, newest: int) -> int:
        """How many of the newest 10 ms frames are sound."""
        return int(np.count_nonzero(self._is_sound()[max(0, len(self._frames) - newest) :]))

    def quiet_tail(self) -> int:
        """How many of the newest 10 ms frames are all silence."""
        sound = np.flatnonzero(self._is_sound())
        return len(self._frames) - (int(sound[-1]) + 1 if len(sound) else 0)

    def value(self) -> str:
        """The mean in the form that `Decoder.set_cmn` takes."""
        sound = self._frames[self._is_sound()]
        mean = PRIOR.copy()
        if len(sound):
            own = sound.mean(axis=0)
            mean[0] = own[0]
            mean = (PRIOR_FRAMES * mean + len(sound) * own) / (PRIOR_FRAMES + len(sound))
        return ",".join(f"{coefficient:.4f}" for coefficient in mean)
