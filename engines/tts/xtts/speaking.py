"""One reply as the worker speaks it: its pieces of text in order, what was made of each, and what playback has left."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from torch import Tensor

from engines.tts.xtts.reply import MOST_AHEAD, Prompt, Reply
from engines.tts.xtts.stretch import Stretch
from engines.tts.xtts.tail import Expected, SpeakingRate, TailGuard
from engines.tts.xtts.text import codes_per_character
from engines.tts.xtts.vocoder import SpeechWindow
from engines.types import SPOKEN_RATE

AHEAD_FROM = 0.5
"""Share of the codes expected of a piece after which the next one is begun, where a slot is to spare."""


MOST_RATES = 512
"""Voices and languages whose speaking rate is remembered."""


class Rates:
    """What is known of how fast each voice speaks each language."""

    def __init__(self) -> None:
        self._rates: OrderedDict[tuple[bytes, str], SpeakingRate] = OrderedDict()

    def of(self, reply: Reply) -> SpeakingRate:
        """The rate of a reply's voice, which learns from every piece that ends by itself."""
        key = reply.latents.digest, reply.language
        rate = self._rates.setdefault(key, SpeakingRate(codes_per_character(reply.language)))
        self._rates.move_to_end(key)
        if len(self._rates) > MOST_RATES:
            self._rates.popitem(last=False)
        return rate


@dataclass(eq=False)
class Spoken:
    """A piece of text that has been begun.

    Attributes:
        slot: Its slot in the batch while it is being decoded.
        window: Its way through the vocoder.
        stretch: What makes it faster or slower than the voice's own; None for neither.
        expected: Codes that its text takes.
        guard: Ends it where it runs on.
        codes: Codes made so far.
        waiting: Codes whose sound hasn't been made yet, after stretching.
        sent: Samples handed over.
        ended: Whether it has made its last code.
    """

    piece: Prompt
    slot: int
    window: SpeechWindow
    expected: Expected
    guard: TailGuard
    stretch: Stretch | None = None
    codes: int = 0
    waiting: int = 0
    sent: int = 0
    ended: bool = False

    @property
    def to_come(self) -> int:
        """Codes that it will probably make yet."""
        return 0 if self.ended else max(0, self.expected.usual - self.codes)

    def take(self, latents: Tensor, last: bool) -> None:
        """Take in latents (n, d) of codes, the `last` ones or not."""
        self.codes += len(latents)
        self.ended = last
        if self.stretch is not None:
            latents = self.stretch.push(latents, last)
        self.waiting += len(latents)
        self.window.push(latents)


@dataclass(eq=False)
class Speaking:
    """A reply under way.

    Attributes:
        reply: Its other side.
        spoken: The pieces begun: the first is the one that is heard, a second one is made ahead.
        began: When its first sound was handed over, in seconds; moved on by every pause that it made.
        seconds: Sound handed over so far.
    """

    reply: Reply
    spoken: deque[Spoken] = field(default_factory=deque)
    began: float | None = None
    seconds: float = 0.0

    @property
    def waits_for_slot(self) -> bool:
        """Whether it has a right to a slot now and holds none."""
        return not any(not one.ended for one in self.spoken)

    @property
    def over(self) -> bool:
        """Whether all of its text has been spoken."""
        return self.reply.text_ended and not self.reply.pieces and not self.spoken

    def may_begin(self, spare: bool) -> bool:
        """Whether its next piece should be begun now.

        Args:
            spare: Whether there are more free slots than replies with a right to one.
        """
        if not self.reply.pieces or self.reply.ahead > MOST_AHEAD:
            return False
        if not self.spoken or all(one.ended for one in self.spoken):
            return True
        newest = self.spoken[-1]
        return spare and len(self.spoken) == 1 and newest.codes >= AHEAD_FROM * newest.expected.usual

    def left(self, now: float) -> float:
        """Seconds of sound that its listener hasn't heard yet, if listening since the first sound."""
        return 0.0 if self.began is None else self.began + self.seconds - now

    def handed_over(self, samples: int, now: float) -> None:
        """Note that sound went out."""
        if self.began is None or (late := -self.left(now)) < 0:
            late = 0.0
        self.began = now if self.began is None else self.began + late
        self.seconds += samples / SPOKEN_RATE

    def expect(self, rate: SpeakingRate) -> None:
        """Note for admission how many codes it has before it."""
        ahead = sum(rate.expects(piece.characters).usual for piece in self.reply.pieces.copy())
        self.reply.codes_before_it = ahead + sum(one.to_come for one in self.spoken)
