"""What the listener's player is doing, told from what it was given and when: a player modelled on our clock.

It plays what it gets without a gap, stands still when it runs dry, and may be held. All times are seconds of
one clock that the caller reads; sound is counted in samples, so that nothing drifts.
"""

from __future__ import annotations


class PlayoutClock:
    """Follows a player of `rate` samples a second.

    Attributes:
        sent: Samples handed to the player so far, without those it dropped.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._dry_at = float("-inf")
        self._held: float | None = None
        self.sent = 0

    @property
    def held(self) -> bool:
        """Whether the player was made to stand still."""
        return self._held is not None

    def ahead(self, now: float) -> float:
        """Seconds of sound that the player holds and hasn't played."""
        if self._held is not None:
            return self._held
        return max(0.0, self._dry_at - now)

    def played(self, now: float) -> float:
        """Samples played so far."""
        return max(0.0, self.sent - self.ahead(now) * self._rate)

    def add(self, samples: int, now: float) -> None:
        """The player was given more sound."""
        self.sent += samples
        self._set_ahead(self.ahead(now) + samples / self._rate, now)

    def drop(self, seconds: float, now: float) -> None:
        """The player dropped the newest `seconds` of its sound; `inf`: all that it hadn't played.

        A player that drops more than we thought it held has played less than we thought.
        """
        ahead = self.ahead(now)
        dropped = ahead if seconds == float("inf") else max(0.0, seconds)
        self.sent -= round(dropped * self._rate)
        self._set_ahead(max(0.0, ahead - dropped), now)

    def hold(self, now: float) -> None:
        """The player stopped at once, keeping what it holds; idempotent."""
        if self._held is None:
            self._held = self.ahead(now)

    def release(self, now: float) -> None:
        """The player goes on; idempotent."""
        if self._held is not None:
            ahead, self._held = self._held, None
            self._set_ahead(ahead, now)

    def _set_ahead(self, seconds: float, now: float) -> None:
        if self._held is not None:
            self._held = seconds
        else:
            self._dry_at = now + seconds
