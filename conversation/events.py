"""Who talks in a conversation, and what a conversation tells the transport that carries it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from conversation.latency import Record

Role = Literal["user", "agent"]
Transport = Literal["room", "websocket", "console"]


def _ignore(*_: object) -> None:
    """What a transport doesn't want to know."""


@dataclass
class Events:
    """What a conversation tells its transport; plain functions called on the event loop.

    Attributes:
        transcript: (role, text so far, final) - words of either side; a text replaces the one before until final.
        state: `initializing`, `listening`, `thinking` or `speaking`.
        turn: A latency record (contract.md).
        interrupted: A reply was cut short: clear what still plays.
        reply_done: A reply was spoken to its end.
        error: (code, message for a person) - a part failed; the conversation goes on.
        lost: Another process holds the conversation now; close without writing.
    """

    transcript: Callable[[Role, str, bool], None] = _ignore
    state: Callable[[str], None] = _ignore
    turn: Callable[[Record], None] = _ignore
    interrupted: Callable[[], None] = _ignore
    reply_done: Callable[[], None] = _ignore
    error: Callable[[str, str], None] = _ignore
    lost: Callable[[], None] = _ignore


@dataclass(frozen=True, slots=True)
class Caller:
    """Who talks, and with whom, as the transport was told.

    Attributes:
        session_id: Names the conversation; the same one later resumes it.
        personality: Personality id, or None for the conversation's own or the default.
        personality_name: Name under which the default speaks where the id is unknown.
        user: Who the person is.
    """

    session_id: str
    personality: str | None = None
    personality_name: str | None = None
    user: str | None = None
