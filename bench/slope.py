"""How fast something grows, robustly: the Theil-Sen slope over medians of blocks, with Sen's interval.

Jumps of single samples (a process that comes and goes) move neither medians nor the median of slopes.
Source: P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 63 (1968).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCKS = 20
"""Blocks at most; neighbouring samples depend on each other, medians of blocks hardly do."""
FEWEST = 6
"""Blocks at least: with fewer there is no interval to speak of."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth per unit of time, and the interval that holds it with 95 % confidence."""

    value: float
    low: float
    high: float

    @property
    def flat(self) -> bool:
        """Whether no growth at all is within the interval."""
        return self.low <= 0.0 <= self.high


def slope(times: Sequence[float], values: Sequence[float]) -> Slope | None:
    """The growth of values over times; None where there are too few.

    Args:
        times: When, growing.
        values: What was measured then; shape as `times`.
    """
    blocks = min(BLOCKS, len(times) // 2)
    if blocks < FEWEST:
        return None
    x = np.array([np.median(block) for block in np.array_split(np.asarray(times, dtype=float), blocks)])
    y = np.array([np.median(block) for block in np.array_split(np.asarray(values, dtype=float), blocks)])
    first, second = np.triu_indices(blocks, k=1)
    slopes = np.sort((y[second] - y[first]) / (x[second] - x[first]))
    spread = 1.96 * math.sqrt(blocks * (blocks - 1) * (2 * blocks + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return Slope(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))
