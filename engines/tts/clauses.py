"""Clauses: a text that arrives in pieces, cut where a voice can begin to speak it.

The first clause leaves as soon as it can be spoken, so that "Sure!" isn't kept waiting for the sentence
after it; later ones are whole sentences, which sound better. Decimals, abbreviations and initials stay whole.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable

LONGEST = 200
"""Characters after which a clause ends at the next comma or space, whatever comes."""

_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]|\n+|[;:](?=\s)")
_CLAUSE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？，、]|\n+|[,;:](?=\s)|\s[-–—](?=\s)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|st|sr|jr|vs|etc|no|approx|dept|fig|inc|ltd|co)|\b[a-z]|\be\.g|\bi\.e|\ba\.m|\bp\.m)\.$",
    re.IGNORECASE,
)
_SPEAKABLE = re.compile(r"\w")


def next_clause(text: str, first: bool) -> int:
    """Where the first clause of `text` ends, 0 where it isn't complete yet.

    Args:
        first: Whether nothing of the reply has been spoken yet.
    """
    for end in (_CLAUSE_END if first else _SENTENCE_END).finditer(text):
        clause = text[: end.end()]
        if _SPEAKABLE.search(clause) and not _ABBREVIATION.search(clause):
            return end.end()
    if len(text) > LONGEST:
        return max(text.rfind(mark, 0, LONGEST) + 1 for mark in ", ") or LONGEST
    return 0


async def clauses(text: str | AsyncIterable[str]) -> AsyncGenerator[str, None]:
    """The clauses of a text, each as soon as it is complete; nothing for text without a letter or digit."""
    waiting, first = "", True
    if isinstance(text, str):
        waiting = text
    else:
        async for piece in text:
            waiting += piece
            while end := next_clause(waiting, first):
                yield waiting[:end].strip()
                waiting, first = waiting[end:], False
    while end := next_clause(waiting, first):
        yield waiting[:end].strip()
        waiting, first = waiting[end:], False
    if _SPEAKABLE.search(waiting):
        yield waiting.strip()
