"""Who comes into a room and whom they want to talk to, read from what LiveKit was told about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

SESSION_ATTRIBUTE = "session_id"
PERSONALITY_ATTRIBUTE = "personality"


@dataclass(frozen=True, slots=True)
class Visit:
    """What a participant asks for (contract.md, "Page and management").

    Attributes:
        session_id: The conversation.
        personality: Personality id; None where nobody named one.
        user: The participant's identity.
    """

    session_id: str
    personality: str | None
    user: str


def visit(room: str, identity: str, attributes: Mapping[str, str], dispatch_metadata: str) -> Visit:
    """Read what a participant asks for.

    Args:
        room: The room's name; names the conversation where the participant names none.
        identity: The participant's identity.
        attributes: The participant's attributes; they win over the dispatch.
        dispatch_metadata: What the dispatch was made with.
    """
    return Visit(
        session_id=attributes.get(SESSION_ATTRIBUTE) or room,
        personality=attributes.get(PERSONALITY_ATTRIBUTE) or dispatched_personality(dispatch_metadata),
        user=identity,
    )


def dispatched_personality(metadata: str) -> str | None:
    """The personality a dispatch's metadata names: the id alone, or JSON `{"personality": id}`."""
    metadata = metadata.strip()
    if not metadata:
        return None
    try:
        named = json.loads(metadata)
    except ValueError:
        return metadata
    if isinstance(named, dict):
        named = named.get(PERSONALITY_ATTRIBUTE)
    return named if isinstance(named, str) and named else None
