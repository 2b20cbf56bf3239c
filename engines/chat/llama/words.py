"""Text of a reply as its tokens come: a piece is given out once no later token can change it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_HALF = "\ufffd"
"""What a decoder writes for bytes that don't make a character yet."""
_LONGEST_HALF = 6
"""Tokens after which such bytes are no character that is still being written, but broken: given out as they are."""


class Words:
    """One reply's text.

    A token may be part of a character, and a decoder may write the same token differently at the beginning of a text
    and within it. So the tokens of the piece before are decoded again with each new piece, and only the difference
    counts.

    Args:
        decode: Token ids to text, special tokens left out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._before = 0
        self._given = 0

    def push(self, token: int) -> str:
        """The text that is certain with this token; often a word, sometimes nothing."""
        self._ids.append(token)
        return self._new(whole=len(self._ids) - self._given >= _LONGEST_HALF)

    def finish(self) -> str:
        """What is left at the reply's end, without half a character."""
        return self._new(whole=True).rstrip(_HALF)

    def _new(self, whole: bool) -> str:
        known = self._decode(self._ids[self._before : self._given])
        text = self._decode(self._ids[self._before :])
        if len(text) <= len(known) or (text.endswith(_HALF) and not whole):
            return ""
        self._before, self._given = self._given, len(self._ids)
        return text[len(known) :]
