"""Who is let in, by what the agent workers say they hold."""

from __future__ import annotations

import pytest

from library import HolderRow, LeaseRow
from token_server.admission import free_places, full, seconds_until_free, verdict


def holder(held: int, limit: int | None, kind: str = "agent", id: str = "w") -> HolderRow:
    return HolderRow(id, kind, held, limit, 0.0)


def lease(room: str, kind: str = "agent") -> LeaseRow:
    return LeaseRow("talk", "t", "h", kind, room, {}, 0.0, 1.5)


@pytest.mark.parametrize(
    ("holders", "free"),
    [
        ([], None),
        ([holder(0, 4, kind="compat")], None),
        ([holder(0, 2)], 2),
        ([holder(0, 1, id="worker"), holder(1, 1, id="job")], 1),
        ([holder(0, 0, id="draining"), holder(0, 3)], 3),
        ([holder(2, 1)], 0),
        ([holder(5, None)], float("inf")),
    ],
)
def test_free_places_are_what_all_agent_workers_have_left(holders: list[HolderRow], free: float | None) -> None:
    assert free_places(holders) == free


def test_without_a_worker_nobody_is_let_into_a_new_room() -> None:
    assert verdict("room", [], [], []) == "no worker"


def test_with_every_place_taken_a_new_room_is_refused() -> None:
    assert verdict("room", [holder(1, 1)], [lease("other")], []) == "full"


def test_a_room_whose_agent_is_there_lets_people_in_even_when_full() -> None:
    assert verdict("room", [holder(1, 1)], [lease("room")], []) == "welcome"
    assert verdict("room", [], [lease("room")], []) == "welcome"


def test_a_websocket_of_that_name_is_no_room() -> None:
    assert verdict("room", [holder(1, 1)], [lease("room", kind="compat")], []) == "full"


def test_those_on_their_way_count_as_taken_until_they_have_arrived() -> None:
    workers = [holder(0, 2)]
    assert verdict("c", workers, [], ["a"]) == "welcome"
    assert verdict("c", workers, [], ["a", "b"]) == "full"
    assert verdict("c", [holder(1, 2)], [lease("a")], ["a"]) == "welcome"


def test_asking_twice_for_the_same_room_takes_one_place() -> None:
    assert verdict("a", [holder(0, 1)], [], ["a"]) == "welcome"
    assert verdict("a", [holder(0, 0)], [], ["a"]) == "welcome", "its place is taken for it already"


def test_where_a_service_is_needed_that_takes_no_call_a_new_room_is_refused() -> None:
    holders = [holder(0, 4), holder(2, 2, kind="tts")]
    assert verdict("room", holders, [], [], ["tts"]) == "service full"
    assert verdict("room", holders, [lease("room")], [], ["tts"]) == "welcome", "its agent is there"
    assert verdict("room", holders, [], [], []) == "welcome"


def test_those_refused_are_told_the_time_after_which_an_agents_place_is_likely_to_be_free() -> None:
    assert seconds_until_free([lease("a"), lease("b"), lease("c", kind="compat")], 20.0) == 10
    assert seconds_until_free([], 20.0) > 0
    refusal = full(10)
    assert (refusal.status, refusal.code, refusal.headers) == (503, "full", {"Retry-After": "10"})
    assert "try again in 10 seconds" in refusal.message
