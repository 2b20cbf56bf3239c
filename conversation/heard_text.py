"""Which words of a reply were heard: the played share of its sound, mapped to its text at word boundaries.

Best known are marks (a stretch of text and the seconds it lasts), exact to the clause; next the whole text
and the sound made for it, taken as spoken at an even pace.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

USUAL_PACE = 15.0
"""Characters a second of ordinary speech, assumed while a reply's sound is still being made."""
FASTEST_PACE = 22.0
"""Characters a second that no voice exceeds for long; text beyond that has no sound."""

# A word with the blanks before it; scripts written without blanks break between any two characters.
_WORDS = re.compile(
    r"\s*(?:[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff][^\w\s]*|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)"
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of text and when its sound begins and ends, in seconds from the start of the reply's sound."""

    text: str
    start: float
    end: float


class HeardText:
    """The text of one reply as it is written, and where in the sound its words are."""

    def __init__(self) -> None:
        self._text = ""
        self._marks: list[Mark] = []

    @property
    def whole(self) -> str | None:
        """All text known so far; None where none is."""
        if self._text:
            return self._text
        return "".join(mark.text for mark in self._marks) or None

    def add(self, text: str) -> None:
        """Text as it is written, in order."""
        self._text += text

    def mark(self, text: str, duration: float) -> None:
        """The next stretch of text, whose sound lasts `duration` seconds after the mark before."""
        start = self._next_start()
        self.mark_at(text, start, start + duration)

    def mark_at(self, text: str, start: float | None, end: float | None) -> None:
        """A stretch of text by its times in the reply's sound; what isn't known follows from its neighbours."""
        if start is None:
            start = self._next_start()
        if self._marks and self._marks[-1].end > start:
            before = self._marks[-1]
            self._marks[-1] = Mark(before.text, before.start, max(before.start, start))
        self._marks.append(Mark(text, start, max(start, end) if end is not None else float("inf")))

    def up_to(self, position: float, made: float, *, complete: bool) -> str | None:
        """The words heard once `position` seconds were played of the `made` seconds of sound there are.

        A word counts as heard when more than half of it was played. None where no text is known.

        Args:
            position: Seconds of the reply's sound that were played.
            made: Seconds of sound there are.
            complete: Whether that is all the sound the text gets; else more of it was to be made.
        """
        if self._marks:
            return self._by_marks(position, made)
        if not self._text:
            return None
        if position <= 0 or made <= 0:
            return ""
        pace = min(len(self._text) / made, FASTEST_PACE if complete else USUAL_PACE)
        return _words_within(self._text, position * pace)

    def _next_start(self) -> float:
        if not self._marks:
            return 0.0
        last = self._marks[-1]
        return last.end if last.end != float("inf") else last.start

    def _by_marks(self, position: float, made: float) -> str:
        heard = ""
        for mark in self._marks:
            end = min(mark.end, max(made, mark.start))
            if end <= position:
                heard += mark.text
                continue
            if mark.start < position:
                heard += _words_within(mark.text, len(mark.text) * (position - mark.start) / (end - mark.start))
            break
        return heard


def _words_within(text: str, characters: float) -> str:
    """The words of `text` of which more than half lies within so many characters."""
    if characters >= len(text):
        return text
    cut = 0
    for word in _WORDS.finditer(text):
        letters = word.end() - len(word.group().lstrip())
        if (letters + word.end()) / 2 > characters:
            break
        cut = word.end()
    return text[:cut]
