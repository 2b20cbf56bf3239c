"""Room tokens: what a caller of LiveKit's standard token endpoint may ask for, and the token that grants it.

A room is named after its conversation where the caller names none, so that a page that is loaded again comes
back into the room where its agent still is.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Annotated, Any

from google.protobuf.json_format import ParseDict, ParseError
from livekit import api
from pydantic import BaseModel, BeforeValidator, Field

from services.asked import fit
from services.http import ApiError
from token_server.names import PERSONALITY_ATTRIBUTE, SESSION_ATTRIBUTE, checked, checked_identity, fresh

LIFETIME = datetime.timedelta(minutes=10)
"""How long a token opens a room; whoever is in gets fresh ones from livekit-server."""

LARGEST = 16 * 1024
"""Bytes of metadata, and of all attributes together: they travel in every update of the room."""

ROOM_FIELDS = frozenset(
    {
        "agents",
        "empty_timeout",
        "departure_timeout",
        "max_participants",
        "metadata",
        "min_playout_delay",
        "max_playout_delay",
        "sync_streams",
    }
)
"""What callers may choose about a room. Recording (egress) and named presets are the operator's."""


class TokenRequest(BaseModel):
    """The body of LiveKit's standard token endpoint; everything is optional.

    What goes to livekit-server as text is made fit for it. Names are taken as they come, and refused where they can't
    be one: a name that was quietly changed would be another's.
    """

    room_name: str = ""
    participant_identity: str = ""
    participant_name: str = ""
    participant_metadata: Annotated[str, BeforeValidator(fit)] = Field("", max_length=LARGEST)
    participant_attributes: Annotated[dict[str, str], BeforeValidator(fit)] = Field(default_factory=dict)
    room_config: Annotated[dict[str, Any], BeforeValidator(fit)] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that may be granted, with every gap filled."""

    room: str
    session_id: str
    identity: str
    name: str
    metadata: str
    attributes: dict[str, str]
    room_config: api.RoomConfiguration


def understood(request: TokenRequest) -> Visit:
    """What the request asks for.

    Raises:
        ApiError: A name can't be one, or the room is to be what callers may not choose.
    """
    attributes = dict(request.participant_attributes)
    if sum(len(key.encode()) + len(value.encode()) for key, value in attributes.items()) > LARGEST:
        raise ApiError(400, "bad_request", f"participant_attributes: send at most {LARGEST} bytes")
    for attribute in (SESSION_ATTRIBUTE, PERSONALITY_ATTRIBUTE):
        if attributes.get(attribute):
            checked(attributes[attribute], f"participant_attributes.{attribute}")
    room = request.room_name or attributes.get(SESSION_ATTRIBUTE) or fresh("room")
    if request.participant_name:
        checked(request.participant_name, "participant_name")
    return Visit(
        room=checked(room, "room_name"),
        session_id=attributes.get(SESSION_ATTRIBUTE) or room,
        identity=checked_identity(request.participant_identity or fresh("visitor")),
        name=request.participant_name,
        metadata=request.participant_metadata,
        attributes=attributes,
        room_config=_room_config(request.room_config),
    )


def signed(visit: Visit, keys: tuple[str, str]) -> str:
    """The token: its holder may join the room, speak, listen, send data and change their own attributes.

    Args:
        visit: Who comes where.
        keys: LiveKit's key and secret.
    """
    token = (
        api.AccessToken(*keys)
        .with_identity(visit.identity)
        .with_ttl(LIFETIME)
        .with_grants(
            api.VideoGrants(
                room_join=True,
                room=visit.room,
                can_publish=True,
                can_publish_sources=["microphone"],
                can_subscribe=True,
                can_publish_data=True,
                can_update_own_metadata=True,
            )
        )
        .with_room_config(visit.room_config)
        .with_attributes(visit.attributes)
        .with_metadata(visit.metadata)
        .with_name(visit.name)
    )
    return token.to_jwt()


def _room_config(asked: dict[str, Any]) -> api.RoomConfiguration:
    try:
        config = ParseDict(asked, api.RoomConfiguration())
    except ParseError as error:
        raise ApiError(400, "bad_request", f"room_config: {' '.join(str(error).split())}") from None
    if refused := {field.name for field, _ in config.ListFields()} - ROOM_FIELDS:
        raise ApiError(400, "bad_request", f"room_config: leave out {', '.join(sorted(refused))}; callers can't set it")
    if len(config.metadata.encode()) > LARGEST or any(len(one.metadata.encode()) > LARGEST for one in config.agents):
        raise ApiError(400, "bad_request", f"room_config: send at most {LARGEST} bytes of metadata")
    # Agents listen under the empty name. Asked for by several names it is still the one agent.
    metadata = config.agents[0].metadata if config.agents else ""
    del config.agents[:]
    config.agents.append(api.RoomAgentDispatch(agent_name="", metadata=metadata))
    return config
