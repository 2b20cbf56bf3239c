"""One reply on its way to the listener: the sound that waits, what was sent, and the words in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from livekit import rtc
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT, TimedString

from conversation.heard_text import HeardText


@dataclass(slots=True, eq=False)
class Segment:
    """One reply's sound, from its first frame to `flush` or `clear_buffer`; 16-bit mono, counted in samples."""

    rate: int
    """Samples a second."""

    text: HeardText = field(default_factory=HeardText)
    waiting: bytearray = field(default_factory=bytearray)
    captured: int = 0
    sent: int = 0
    begins: int | None = None
    """Where in all sound given to the sink it begins; None before its first frame."""
    ended: bool = False
    """No more sound comes."""
    complete: bool = False
    """It ended by itself, all of its text spoken."""
    truncated: bool = False
    """Its source failed before all of its text was spoken."""
    failed: bool = False
    """The sink failed; the rest is dropped."""

    def capture(self, frame: rtc.AudioFrame) -> None:
        """Keep a frame's sound and the times of its words, where it carries them."""
        for timed in frame.userdata.get(USERDATA_TIMED_TRANSCRIPT, ()):
            if isinstance(timed, TimedString):
                self.text.mark_at(str(timed), _seconds(timed.start_time), _seconds(timed.end_time))
        if not self.failed:
            self.waiting += frame.data.cast("B")
            self.captured += frame.samples_per_channel

    def take(self, samples: int) -> rtc.AudioFrame:
        """The next frame of what waits."""
        data = bytes(self.waiting[: 2 * samples])
        del self.waiting[: 2 * samples]
        return rtc.AudioFrame(data, self.rate, 1, samples)

    def fail(self) -> None:
        """Drop what waits and what still comes."""
        self.failed = True
        self.waiting.clear()

    def position(self, played: float) -> float:
        """Seconds of it that were heard, once the listener has played so many samples of all sound."""
        if self.begins is None:
            return 0.0
        return min(max(played - self.begins, 0.0), self.sent) / self.rate

    def words_heard(self, position: float) -> str | None:
        """Its text up to there; None where no text is known."""
        return self.text.up_to(position, self.captured / self.rate, complete=self.complete and not self.truncated)


def _seconds(moment: object) -> float | None:
    return float(moment) if isinstance(moment, int | float) else None
