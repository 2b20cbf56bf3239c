"""How much of a joiner's prompt a step takes in, so that it starts early and the others don't stall; free of I/O."""

from __future__ import annotations

LEAST, FIRST, MOST = 16, 64, 2048
"""Tokens of a piece, and of the first one, when nothing is known yet."""
ALONE = 0.5
"""Seconds that a piece may take when nobody else waits: so long does a newcomer or a cancellation wait at most."""
AMONG_OTHERS = 0.1
"""Seconds that a piece may take when others are speaking, where their own steps are fast."""
SHARE = 2.0
"""How much longer than the others' own step a piece may take: the joiner then loses at most half as much to them."""
_NEWEST = 0.3
_WORST = 2.0
"""No step counts as more than so many times slower than is known: a machine that was busy otherwise isn't slow."""


class Pace:
    """Learns from each step how long tokens take here."""

    def __init__(self) -> None:
        self._token = 0.0
        self._decoding = 0.0

    def piece(self, others: bool) -> int:
        """How many tokens of prompts the next step should take in.

        Args:
            others: Whether replies under way wait for the same step.
        """
        if not self._token:
            return FIRST
        seconds = max(AMONG_OTHERS, SHARE * self._decoding) if others else ALONE
        return max(LEAST, min(MOST, int(seconds / self._token)))

    def took(self, seconds: float, decoded: int, prompt: int) -> None:
        """A step took `seconds` for `decoded` replies and `prompt` tokens of prompts."""
        if prompt >= LEAST:
            # The others' tokens cost less in company than alone, since they share the weights that are read.
            own = max(seconds - self._decoding, seconds / 2) if decoded else seconds
            self._token = _moved(self._token, own / prompt)
        elif decoded and not prompt:
            self._decoding = _moved(self._decoding, seconds)


def _moved(known: float, new: float) -> float:
    return known + _NEWEST * (min(new, _WORST * known) - known) if known else new
