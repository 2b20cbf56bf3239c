"""The turn policy: from what is known of a user's turn, when to speculate on it and when to commit it.

A pure function without I/O or clock. The ear asks it again whenever the words change and compares the
silence it has measured with the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a turn so far.

    Attributes:
        text: The words understood so far, lower case or not, with or without punctuation.
        language: BCP 47 tag the words are in.
        patience: The personality's patience; 1.0 is normal, 2.0 waits twice as long.
    """

    text: str
    language: str = "en"
    patience: float = 1.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of silence after which to act.

    Attributes:
        speculate: Begin the reply on approval.
        commit: End the turn; never sooner than `speculate`.
    """

    speculate: float
    commit: float


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """A first, simple policy: soon after words that sound finished, later after ones that don't."""

    speculate_after: float = 0.10
    commit_after: float = 0.20
    commit_after_unfinished: float = 0.9

    def timing(self, known: Known) -> Timing:
        """When to act on a turn of which this is known."""
        commit = self.commit_after_unfinished if sounds_unfinished(known.text, known.language) else self.commit_after
        commit *= max(known.patience, 0.1)
        return Timing(speculate=min(self.speculate_after, commit), commit=commit)


# Words after which an English sentence goes on: articles, conjunctions, most prepositions that cannot be stranded,
# possessives, auxiliaries that open a question or a promise, and the sounds of thinking.
_UNFINISHED_LAST = frozenset(
    {"a", "an", "the", "and", "or", "but", "nor", "because", "since", "unless", "although", "though", "while"}
    | {"whereas", "if", "whether", "of", "from", "into", "onto", "upon", "between", "among", "during", "towards"}
    | {"my", "your", "his", "its", "our", "their", "whose", "per", "via"}
    | {"i'm", "i'll", "i'd", "i've", "you're", "you'll", "he'll", "she'll", "we'll", "they'll", "we're", "they're"}
    | {"uh", "um", "er", "erm"}
)

# Beginnings that are unfinished as a whole: "i would like to", "can you tell me the", "let me".
_UNFINISHED_TAIL = re.compile(
    r"(?:\b(?:want|wants|like|need|needs|have|has|going|try|trying|used|able|supposed|hope) to"
    r"|\b(?:let me|tell me|give me|show me|could you|can you|would you|will you|do you|i would|i could|i will|i can)"
    r"|\b(?:is|was|are|were) (?:the|a|an|my|your)"
    r"|\b(?:to|with|for|at|in|on|about|by) (?:the|a|an|my|your|our|their))$"
)

_TERMINAL = re.compile(r"[.!?。！？]['\")\]]*$")
_TRAILING_COMMA = re.compile(r"[,;:…\-–—]$|\.\.\.$")


def sounds_unfinished(text: str, language: str = "en") -> bool:
    """Whether the words alone suggest that the speaker hasn't finished.

    Judges English only; in other languages only punctuation (where a recognizer writes it) counts.
    """
    text = text.strip().lower()
    if not text:
        return False
    if _TRAILING_COMMA.search(text):
        return True
    if _TERMINAL.search(text):
        return False
    if not language.lower().startswith("en"):
        return False
    return text.split()[-1] in _UNFINISHED_LAST or _UNFINISHED_TAIL.search(text) is not None
