"""One line of the doctor's: how something is, and where it isn't well, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`FAIL` where a start, or talking, is going to fail; `warn` where it may."""

    state: State
    text: str


def ok(text: str) -> Finding:
    """Well."""
    return Finding("ok", text)


def warn(text: str) -> Finding:
    """Works, with something to know or do."""
    return Finding("warn", text)


def fail(text: str) -> Finding:
    """Doesn't work; the text says what to do."""
    return Finding("FAIL", text)
