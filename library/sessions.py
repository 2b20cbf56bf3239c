"""Names of conversations: which strings can be one."""

from __future__ import annotations

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
