"""The floor: whose microphone a room's conversation hears, decided sound by sound, without I/O.

The first human in the room is heard. Another one gets the floor by speaking while the one who has it is
silent, beginning with the sound just before their first word, and keeps it until they fall silent. What
the agent says doesn't count as sound in the room: anybody may interrupt it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Sound = TypeVar("Sound")

LEVEL = 0.004
"""Quietest speech, RMS of full scale: quiet headsets are above, line noise below."""
ABOVE_NOISE = 3.0
"""Speech is this many times (10 dB) louder than the noise around it."""
NOISE_RISE = 2.0
"""A second of steady sound raises the noise estimate by this factor (6 dB), so that a fan isn't taken for a speaker
for long; speech falls back to the noise between its sounds several times a second."""
ONSET = 0.06
"""Seconds of loud sound within `ONSET_WITHIN` that make a speaker of somebody; a click is shorter."""
ONSET_WITHIN = 0.1
RELEASE = 0.5
"""Seconds of quiet after which a speaker is silent: longer than the gaps between words, shorter than a turn's end
plus an answer."""
PRE_ROLL = 0.3
"""Seconds before a new speaker's detected onset that are heard with it: words start softly."""
HISTORY = 1.2
"""Seconds kept of those who aren't heard."""
STALLED = 0.3
"""Seconds without any sound after which somebody counts as silent: their connection or track is gone."""


@dataclass
class VoiceActivity:
    """Whether one microphone carries speech: loudness against an estimate of its own noise.

    Times are seconds on any one clock. Only the floor's choice hangs on this; turns are the ear's matter.
    """

    speaking: bool = False
    onset: float = 0.0
    """When the latest speech began."""
    last_loud: float = float("-inf")
    last_seen: float = float("-inf")
    _noise: float = LEVEL / ABOVE_NOISE
    _recent: deque[tuple[float, float]] = field(default_factory=deque)

    def feed(self, level: float, at: float, duration: float) -> None:
        """Take in the level (RMS of full scale) of the sound that began at `at`."""
        self.last_seen = at
        loud = level > max(LEVEL, self._noise * ABOVE_NOISE)
        self._noise = min(level, self._noise * NOISE_RISE**duration)
        self._noise = max(self._noise, LEVEL / ABOVE_NOISE / 10)
        if loud:
            self.last_loud = at + duration
            self._recent.append((at, duration))
        while self._recent and self._recent[0][0] <= at - ONSET_WITHIN:
            self._recent.popleft()
        if self.speaking:
            self.speaking = at + duration - self.last_loud < RELEASE
        elif sum(length for _, length in self._recent) >= ONSET - 1e-6:
            self.speaking = True
            self.onset = self._recent[0][0]


@dataclass
class _Microphone(Generic[Sound]):
    activity: VoiceActivity = field(default_factory=VoiceActivity)
    unheard: deque[tuple[float, Sound]] = field(default_factory=deque)


class Floor(Generic[Sound]):
    """Chooses, for a stream of sounds of several people, which of them the conversation hears."""

    def __init__(self) -> None:
        self._present: dict[str, _Microphone[Sound]] = {}
        self.holder: str | None = None
        """Who is heard."""
        self.speaker: str | None = None
        """Who was heard to speak last: the words that come now are theirs, also when another has the floor again."""

    @property
    def first(self) -> str | None:
        """The human who has been in the room longest."""
        return next(iter(self._present), None)

    def join(self, identity: str) -> None:
        """Somebody came into the room; in the order of coming."""
        self._present.setdefault(identity, _Microphone())

    def leave(self, identity: str) -> None:
        """Somebody left; the floor is free if it was theirs."""
        self._present.pop(identity, None)
        if self.holder == identity:
            self.holder = None

    def take(self, identity: str, sound: Sound, level: float, at: float, duration: float) -> list[Sound]:
        """Take in one sound of one person; give back what the conversation hears now, oldest first.

        Args:
            identity: Who sounds.
            sound: What is handed back when it is to be heard.
            level: RMS of full scale.
            at: When it began, in seconds on one clock for all.
            duration: Seconds.
        """
        microphone = self._present.get(identity)
        if microphone is None:
            return []
        microphone.activity.feed(level, at, duration)
        if identity == self.holder:
            if microphone.activity.speaking:
                self.speaker = identity
            return [sound]
        microphone.unheard.append((at, sound))
        while microphone.unheard[0][0] < at - HISTORY:
            microphone.unheard.popleft()
        if not self._free(at):
            return []
        if microphone.activity.speaking:
            return self._hand_to(identity, microphone, microphone.activity.onset - PRE_ROLL)
        if identity == self.first:
            return self._hand_to(identity, microphone, at)
        return []

    def _free(self, at: float) -> bool:
        """Whether nobody who has the floor is speaking."""
        if self.holder is None:
            return True
        activity = self._present[self.holder].activity
        return not activity.speaking or at - activity.last_seen > STALLED

    def _hand_to(self, identity: str, microphone: _Microphone[Sound], since: float) -> list[Sound]:
        """Give somebody the floor, beginning with their sound since then, but with nothing spoken over another."""
        if self.holder is not None:
            since = max(since, self._present[self.holder].activity.last_loud)
        heard = [sound for began, sound in microphone.unheard if began >= since - 1e-6]
        microphone.unheard.clear()
        self.holder = identity
        if microphone.activity.speaking:
            self.speaker = identity
        return heard
