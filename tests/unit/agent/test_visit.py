"""Which conversation and personality a participant asks for."""

from __future__ import annotations

import pytest

from agent.visit import Visit, dispatched_personality, visit


def test_a_participants_attributes_name_conversation_and_personality() -> None:
    attributes = {"session_id": "s1", "personality": "pirate", "other": "x"}
    assert visit("room", "ann", attributes, "teacher") == Visit("s1", "pirate", "ann")


def test_without_attributes_the_room_names_the_conversation_and_the_dispatch_the_personality() -> None:
    assert visit("room", "ann", {}, "teacher") == Visit("room", "teacher", "ann")


def test_empty_attributes_count_as_none() -> None:
    assert visit("room", "ann", {"session_id": "", "personality": ""}, "") == Visit("room", None, "ann")


@pytest.mark.parametrize(
    ("metadata", "personality"),
    [
        ("", None),
        ("  ", None),
        ("pirate", "pirate"),
        ('{"personality": "pirate", "more": 1}', "pirate"),
        ('"pirate"', "pirate"),
        ('{"other": 1}', None),
        ('{"personality": 7}', None),
        ("{not json", "{not json"),
        ("12", None),
    ],
)
def test_dispatch_metadata_is_an_id_or_json(metadata: str, personality: str | None) -> None:
    assert dispatched_personality(metadata) == personality
