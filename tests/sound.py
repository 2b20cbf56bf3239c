"""Where there is sound in samples: loudness, the first and the last audible sample."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

AUDIBLE = 0.005
"""Loudness (RMS over a window, full scale 1.0) from which a window counts as sound: -46 dBFS."""

WINDOW = 0.01
"""Seconds in a window."""


def rms(samples: ArrayLike) -> float:
    """Loudness of the whole, full scale 1.0; 0 for no samples."""
    values = np.asarray(samples, dtype=np.float64)
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def loudness(samples: ArrayLike, rate: int) -> NDArray[np.float64]:
    """Loudness of each whole window of `WINDOW` seconds, shape (windows,)."""
    values = np.asarray(samples, dtype=np.float64)
    size = int(rate * WINDOW)
    windows = values[: len(values) // size * size].reshape(-1, size)
    loud: NDArray[np.float64] = np.sqrt(np.mean(windows**2, axis=1))
    return loud


def audible_seconds(samples: ArrayLike, rate: int) -> float:
    """How much of it is sound, in seconds."""
    return float(np.count_nonzero(loudness(samples, rate) > AUDIBLE)) * WINDOW


def first_audible(samples: ArrayLike, rate: int) -> int | None:
    """Index of the first audible sample, None where all is silent."""
    values = np.asarray(samples, dtype=np.float64)
    loud = np.flatnonzero(loudness(values, rate) > AUDIBLE)
    if not loud.size:
        return None
    start = int(loud[0]) * int(rate * WINDOW)
    return start + int(np.argmax(np.abs(values[start : start + int(rate * WINDOW)]) > AUDIBLE))


def last_audible(samples: ArrayLike, rate: int) -> int | None:
    """Index of the last audible sample, None where all is silent."""
    values = np.asarray(samples, dtype=np.float64)
    index = first_audible(values[::-1], rate)
    return None if index is None else len(values) - 1 - index


def joined(pieces: Iterable[ArrayLike]) -> NDArray[np.float32]:
    """Pieces of sound one after the other, shape (n,)."""
    arrays = [np.asarray(piece, dtype=np.float32) for piece in pieces]
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.float32)
