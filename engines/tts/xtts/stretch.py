"""Linear interpolation of a sequence that arrives in pieces, equal to torch's interpolation of the whole.

Positions are counted from the sequence's begin and rounded as torch rounds them: once, to float32, from the scale in
float32. Over half a minute its rounding grows to a ten-thousandth of a step, and would show in a comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Stretch:
    """One sequence being stretched.

    Args:
        scale: Outputs per input.
        copies_short: Whether a sequence that is too short to get an output more than it has inputs is copied, as torch
            does; the first outputs wait until it is longer than that.
    """

    def __init__(self, scale: float, copies_short: bool = False) -> None:
        self._scale = scale
        self._copies_short = copies_short
        self._kept: Tensor | None = None
        self._first = 0
        self._made = 0

    def push(self, new: Tensor, last: bool) -> Tensor:
        """The outputs that can be made now.

        Args:
            new: The next inputs, shape (n, d).
            last: Whether the sequence ends with them: its last input then stands for all after it.

        Returns:
            Shape (m, d).
        """
        kept = new if self._kept is None else torch.cat((self._kept, new))
        end = self._first + len(kept)
        if self._copies_short and int(end * self._scale) == end:
            self._kept = None if last else kept
            return kept if last else kept[:0]
        positions = self._positions(self._made, int(end * self._scale))
        below = positions.long()
        if not last:
            below = below[below + 1 < end]
            positions = positions[: len(below)]
        above = (below + 1).clamp(max=end - 1)
        share = (positions - below).unsqueeze(1).to(kept)
        below, above = ((side - self._first).to(kept.device) for side in (below, above))
        made = kept[below] * (1 - share) + kept[above] * share
        self._made += len(made)
        needless = min(int(self._positions(self._made, self._made + 1).item()) - self._first, len(kept))
        self._kept, self._first = kept[needless:], self._first + needless
        return made

    def _positions(self, begin: int, end: int) -> Tensor:
        """Where outputs lie between the inputs."""
        outputs = torch.arange(begin, end, dtype=torch.float64)
        step = torch.tensor(1 / self._scale, dtype=torch.float32).double()
        return ((outputs + 0.5) * step - 0.5).float().clamp(min=0)
