"""What callers hand in, made fit to be kept: names of conversations, texts, and JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from library.errors import SessionIdError
from library.models import SESSION_ID_LENGTH


def check_session_id(session_id: str) -> str:
    """The session id, if it can name a conversation: 1 to 200 printable characters.

    Raises:
        SessionIdError: It can't.
    """
    if not 1 <= len(session_id) <= SESSION_ID_LENGTH or not session_id.isprintable() or not session_id.strip():
        raise SessionIdError(f"a session id has 1 to {SESSION_ID_LENGTH} printable characters: choose another one")
    return session_id


def storable(text: str) -> str:
    """The text without what a database can't hold: NUL characters and halves of surrogate pairs."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def storable_json(value: object) -> Any:
    """The JSON value with all its texts made storable.

    Raises:
        ValueError: Something in it has no place in JSON.
    """
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {storable(str(name)): storable_json(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [storable_json(part) for part in value]
    raise ValueError(f"metadata takes JSON values only, not {type(value).__name__} {value!r}")
