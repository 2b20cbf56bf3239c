"""What callers send as JSON, made fit for the databases, encoders and engines behind: they take Unicode, no more."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, model_validator

from library.text import storable

DEEPEST = 64
"""Lists and objects within each other; no message of ours has more than four."""


class Asked(BaseModel):
    """A request's body or a WebSocket's message.

    JSON can write NUL characters and halves of surrogate pairs, which can be neither stored nor spoken: they are left
    out or become question marks. What is nested too deeply is refused.
    """

    @model_validator(mode="before")
    @classmethod
    def _fit(cls, data: Any) -> Any:
        return fit(data)


def fit(value: Any, depth: int = 0) -> Any:
    """The JSON value with all its texts made fit.

    Raises:
        ValueError: It is nested too deeply.
    """
    if isinstance(value, str):
        return storable(value)
    if not isinstance(value, dict | list):
        return value
    if depth == DEEPEST:
        raise ValueError(f"lists and objects are nested in each other {DEEPEST} times at most")
    if isinstance(value, list):
        return [fit(part, depth + 1) for part in value]
    return {storable(name) if isinstance(name, str) else name: fit(part, depth + 1) for name, part in value.items()}
