"""Which strings may name a room, a participant or a personality, and where LiveKit reserves names for itself."""

from __future__ import annotations

import secrets

from services.http import ApiError

LONGEST = 200
"""Characters; a room's name may name a conversation, whose names end there too."""

AGENT_PREFIX = "agent-"
"""Identities that LiveKit gives to agents; a person of that name would throw the agent out."""

SESSION_ATTRIBUTE = "session_id"
PERSONALITY_ATTRIBUTE = "personality"


def checked(name: str, field: str) -> str:
    """The name, if it is 1 to 200 printable characters, not all of them blanks.

    Args:
        name: What the caller sent.
        field: What it is called in the request, for the refusal.

    Raises:
        ApiError: It isn't.
    """
    if not 1 <= len(name) <= LONGEST or not name.isprintable() or not name.strip():
        raise ApiError(400, "bad_request", f"{field}: send 1 to {LONGEST} printable characters, or leave it out")
    return name


def checked_identity(identity: str) -> str:
    """The participant's identity, if a person may have it.

    Raises:
        ApiError: It is empty, too long, not printable, or reserved for agents.
    """
    if checked(identity, "participant_identity").startswith(AGENT_PREFIX):
        raise ApiError(
            400, "bad_request", f"participant_identity: names that begin with '{AGENT_PREFIX}' belong to agents"
        )
    return identity


def fresh(prefix: str) -> str:
    """A name nobody guesses."""
    return f"{prefix}-{secrets.token_hex(8)}"
