"""When a reply is silent that shouldn't be: decided from looks at it, without a clock or a session.

A reply owes sound from the moment its text is with the voice until it was heard. It may be quiet while the chat model
writes, which has deadlines of its own, and while a person is being listened to, which is what a pause is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

LOOK_EVERY = 0.25
"""Seconds between looks."""
LONGEST_LOOK = 0.5
"""Seconds that one look counts at most: a process that was frozen has missed its own playing."""
SILENT_FOR = 1.5
"""Seconds of silence that are too long; found within a look more."""

Cause: TypeAlias = Literal["paused", "not played", "no sound", "not ended"]
"""Held back although nobody speaks; there and not taken by the sink; not made; over and not done."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found.

    Attributes:
        under_way: A reply is being given.
        hearing: The ear follows somebody who speaks.
        paused: The output holds sound back.
        playing: The listener hears sound that was sent.
        waiting: Sound is there that wasn't sent.
        open: The output knows of a reply that isn't over.
        making: The voice is at work on a text, all of which it has.
        writing: The chat model is still writing that text.
    """

    under_way: bool
    hearing: bool = False
    paused: bool = False
    playing: bool = False
    waiting: bool = False
    open: bool = False
    making: bool = False
    writing: bool = False


def cause_of_silence(seen: Seen) -> Cause | None:
    """Why a reply is silent at this moment that should sound; None where all is well."""
    if not seen.under_way or seen.playing:
        return None
    if seen.paused:
        return None if seen.hearing or not (seen.open or seen.waiting) else "paused"
    if seen.waiting:
        return "not played"
    if seen.writing:
        return None
    if seen.making:
        return "no sound"
    return "not ended" if seen.open else None


class SilentReply:
    """Follows one conversation's replies.

    Args:
        voice_deadline: Seconds that a voice has for each piece of sound; what is silent for that reason is first left
            to whoever keeps that deadline.
    """

    def __init__(self, voice_deadline: float) -> None:
        self._voice_deadline = voice_deadline
        self._silent = 0.0
        self._told = False

    def look(self, seen: Seen, since_last: float) -> Cause | None:
        """Judge one look; gives the cause once for each reply that is to be ended.

        Args:
            seen: What it found.
            since_last: Seconds since the look before.
        """
        cause = cause_of_silence(seen)
        if cause is None:
            self._silent = 0.0
            self._told = False
            return None
        self._silent += min(since_last, LONGEST_LOOK)
        allowed = SILENT_FOR + (self._voice_deadline if cause == "no sound" else 0.0)
        if self._silent < allowed or self._told:
            return None
        self._told = True
        return cause
