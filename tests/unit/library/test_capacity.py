"""What is free by what processes say of themselves, and when somebody who was refused is told to ask again."""

from __future__ import annotations

import pytest

from library import HolderRow
from library.capacity import LATEST, SOONEST, UNKNOWN, free_places, full_service, seconds_until_free


def holder(kind: str, held: int, limit: int | None, id: str = "p") -> HolderRow:
    return HolderRow(id, kind, held, limit, 0.0)


def test_processes_of_a_kind_are_counted_together_and_apart_from_others() -> None:
    holders = [holder("stt", 3, 4), holder("stt", 4, 4, "q"), holder("agent", 0, 9)]
    assert free_places(holders, "stt") == 1
    assert free_places(holders, "tts") is None
    assert free_places([holder("tts", 5, None)], "tts") == float("inf")


def test_a_service_that_takes_no_call_is_named_if_it_is_needed() -> None:
    holders = [holder("stt", 4, 4), holder("chat", 0, 4)]
    assert full_service(holders, ["chat", "stt"]) == "stt"
    assert full_service(holders, ["chat"]) is None
    assert full_service(holders, []) is None
    assert full_service(holders, ["tts"]) is None, "one that hasn't said anything isn't called full"


@pytest.mark.parametrize(
    ("held_for", "seconds"),
    [
        ([], UNKNOWN),
        ([10.0], 10),
        ([10.0, 20.0, 30.0], 7),
        ([0.5], SOONEST),
        ([-3.0], SOONEST),
        ([600.0], LATEST),
        ([600.0] * 50, 12),
    ],
)
def test_a_place_is_free_the_sooner_the_shorter_they_are_held_and_the_more_there_are(
    held_for: list[float], seconds: int
) -> None:
    assert seconds_until_free(held_for) == seconds
