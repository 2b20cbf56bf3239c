"""The words of the compat WebSocket, apart from any socket: what a client may send, and what we send."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from library.text import storable

HELLO = 'the first message is JSON text: {"agentId": "...", "userId": "...", "agentName": "..."}'
"""What the first message must be, in words."""
LONGEST_TEXT = 10_000
"""Characters of a typed message."""

_YES = {"1", "true", "yes"}
_NO = {"", "0", "false", "no"}


class WrongMessage(ValueError):
    """What came doesn't fit; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the client opted in to.

    Attributes:
        binary: Sound as binary messages instead of base64 in JSON.
        events: `ready`, `transcript`, `interrupted` and `turn`, and the commands.
    """

    binary: bool = False
    events: bool = False


@dataclass(frozen=True, slots=True)
class Hello:
    """The client's first message."""

    agent_id: str
    user_id: str
    agent_name: str


@dataclass(frozen=True, slots=True)
class Typed:
    """A message written instead of spoken."""

    text: str


@dataclass(frozen=True, slots=True)
class UsePersonality:
    """Go on as another personality."""

    id: str


@dataclass(frozen=True, slots=True)
class UseVoice:
    """Go on in another voice."""

    id: str


Command: TypeAlias = Typed | UsePersonality | UseVoice

_COMMANDS: dict[str, tuple[str, type[Typed] | type[UsePersonality] | type[UseVoice]]] = {
    "text": ("text", Typed),
    "personality": ("id", UsePersonality),
    "voice": ("id", UseVoice),
}


def options(query: Mapping[str, str]) -> Options:
    """Read the address's query.

    Raises:
        WrongMessage: A value isn't one of those that exist.
    """
    audio = query.get("audio", "base64").lower()
    if audio not in ("base64", "binary"):
        raise WrongMessage("?audio= is 'base64' (JSON messages) or 'binary'")
    events = query.get("events", "").lower()
    if events not in _YES | _NO:
        raise WrongMessage("?events= is '1' or '0'")
    return Options(binary=audio == "binary", events=events in _YES)


def hello(message: str | bytes) -> Hello:
    """Read the client's first message; names that are left out are empty.

    Raises:
        WrongMessage: It is anything else.
    """
    if isinstance(message, bytes):
        raise WrongMessage(f"{HELLO}; sound comes after it")
    try:
        fields = _object(message)
    except WrongMessage as error:
        raise WrongMessage(f"{HELLO}; {error}") from error
    if "agentId" not in fields:
        raise WrongMessage(f"{HELLO}; agentId is missing")
    values = [fields.get(name, "") for name in ("agentId", "userId", "agentName")]
    if not all(isinstance(value, str) for value in values):
        raise WrongMessage(f"{HELLO}; all three are strings")
    agent_id, user_id, agent_name = (storable(value).strip() for value in values)
    return Hello(agent_id, user_id, agent_name)


def command(message: str, wanted: Options) -> Command:
    """Read a later text message.

    Raises:
        WrongMessage: There is no such message, or the client didn't opt in to it.
    """
    fields = _object(message)
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in _COMMANDS:
        raise WrongMessage(
            "a text message is JSON with a type: 'text', 'personality' or 'voice'; sound is sent as binary"
        )
    if not wanted.events:
        raise WrongMessage("connect with ?events=1 to send text messages")
    name, make = _COMMANDS[kind]
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise WrongMessage(f"a message of type '{kind}' needs a string '{name}'")
    if len(value) > LONGEST_TEXT:
        raise WrongMessage(f"'{name}' is longer than {LONGEST_TEXT} characters")
    # JSON can write what can be neither stored nor spoken.
    if not (fit := storable(value).strip()):
        raise WrongMessage(f"a message of type '{kind}' needs a string '{name}'")
    return make(fit)


def text(kind: str, **fields: object) -> str:
    """One of our text messages."""
    return json.dumps({"type": kind, **fields})


def _object(message: str) -> dict[str, Any]:
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise WrongMessage("this isn't valid JSON") from error
    if not isinstance(fields, dict):
        raise WrongMessage("this isn't a JSON object")
    return fields
