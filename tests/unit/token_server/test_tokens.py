"""What callers of the token endpoint may ask for."""

from __future__ import annotations

from typing import Any

import pytest
from livekit import api

from services.http import ApiError
from token_server.names import LONGEST
from token_server.tokens import LARGEST, LIFETIME, TokenRequest, Visit, signed, understood

KEYS = ("APIkey", "s" * 40)


def asked(**fields: Any) -> Visit:
    return understood(TokenRequest(**fields))


def claims(visit: Visit) -> api.Claims:
    return api.TokenVerifier(*KEYS).verify(signed(visit, KEYS))


def test_an_empty_request_gets_a_room_and_a_name_of_its_own() -> None:
    first, second = asked(), asked()
    assert first.room != second.room
    assert first.identity != second.identity
    assert first.session_id == first.room


def test_the_room_is_named_after_the_conversation_where_no_room_is_asked_for() -> None:
    visit = asked(participant_attributes={"session_id": "talk-1"})
    assert (visit.room, visit.session_id) == ("talk-1", "talk-1")


def test_a_room_that_is_asked_for_keeps_its_name() -> None:
    visit = asked(room_name="kitchen", participant_attributes={"session_id": "talk-1"})
    assert (visit.room, visit.session_id) == ("kitchen", "talk-1")
    assert asked(room_name="kitchen").session_id == "kitchen"


def test_the_token_lets_its_holder_speak_and_listen_in_that_room_only() -> None:
    visit = asked(
        room_name="kitchen",
        participant_identity="anna",
        participant_name="Anna",
        participant_metadata="m",
        participant_attributes={"personality": "juno", "other": "x"},
    )
    token = claims(visit)
    assert (token.identity, token.name, token.metadata) == ("anna", "Anna", "m")
    assert token.attributes == {"personality": "juno", "other": "x"}
    grants = token.video
    assert grants is not None
    assert grants.room_join and grants.room == "kitchen"
    assert grants.can_publish and grants.can_subscribe and grants.can_publish_data and grants.can_update_own_metadata
    assert grants.can_publish_sources == ["microphone"]
    assert not (grants.room_admin or grants.room_create or grants.room_list or grants.room_record or grants.hidden)


def test_a_token_is_short_lived() -> None:
    import jwt

    content = jwt.decode(signed(asked(), KEYS), KEYS[1], algorithms=["HS256"])
    assert content["exp"] - content["nbf"] == LIFETIME.total_seconds()


@pytest.mark.parametrize(
    ("agents", "metadata"),
    [
        ([], ""),
        ([{"agent_name": "", "metadata": "juno"}], "juno"),
        ([{"agent_name": "some-agent", "metadata": "juno"}], "juno"),
        ([{"agentName": "some-agent", "metadata": "juno", "deployment": "staging"}], "juno"),
        ([{"agent_name": "a", "metadata": "juno"}, {"agent_name": "b", "metadata": "nova"}], "juno"),
    ],
)
def test_any_agent_that_is_asked_for_is_ours(agents: list[dict[str, str]], metadata: str) -> None:
    config = claims(asked(room_config={"agents": agents})).room_config
    assert config is not None
    assert list(config.agents) == [api.RoomAgentDispatch(agent_name="", metadata=metadata)]


def test_other_wishes_about_the_room_are_kept() -> None:
    config = asked(room_config={"empty_timeout": 30, "maxParticipants": 3, "metadata": "m"}).room_config
    assert (config.empty_timeout, config.max_participants, config.metadata) == (30, 3, "m")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"room_name": "x" * (LONGEST + 1)}, "room_name"),
        ({"room_name": "a\nb"}, "room_name"),
        ({"room_name": "  "}, "room_name"),
        ({"participant_identity": "a\x00b"}, "participant_identity"),
        ({"participant_identity": "agent-AJ_1"}, "participant_identity"),
        ({"participant_name": "\t"}, "participant_name"),
        ({"participant_attributes": {"session_id": "x" * (LONGEST + 1)}}, "session_id"),
        ({"participant_attributes": {"personality": "a\nb"}}, "personality"),
        ({"participant_attributes": {"k": "x" * LARGEST}}, "participant_attributes"),
        ({"room_config": {"nonsense": 1}}, "room_config"),
        ({"room_config": {"empty_timeout": "soon"}}, "room_config"),
        ({"room_config": {"name": "preset"}}, "name"),
        ({"room_config": {"egress": {"room": {"layout": "grid"}}}}, "egress"),
        ({"room_config": {"agents": [{"metadata": "x" * (LARGEST + 1)}]}}, "room_config"),
    ],
)
def test_what_cannot_be_granted_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ApiError) as refused:
        asked(**fields)
    assert refused.value.status == 400
    assert named in refused.value.message
