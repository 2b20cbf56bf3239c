"""When a room is sent a new agent, on scripted looks."""

from __future__ import annotations

from dataclasses import replace

from library import LeaseRow
from library.leases import FENCED
from token_server.dispatch_policy import (
    BLINK,
    CLAIMS_WITHIN,
    COMES_WITHIN,
    PAUSES,
    REACHED_AGAIN,
    RECOVERY,
    TOLD_AFTER,
    Dismissal,
    Memory,
    Person,
    Redispatch,
    RoomSeen,
    Seen,
    newly_noticed,
    plan,
    unserved,
)

ANNA = Person("anna", "talk")
ROOM = RoomSeen("room", (ANNA,))
LEASE = LeaseRow(
    session_id="talk",
    token="t1",
    holder="agent-1",
    kind="agent",
    place="room",
    metadata={"room": "room", "agent_identity": "agent-old", "dispatch_metadata": "nova"},
    claimed_at=0.0,
    expires_at=1.5,
)
LOOK = 0.5


class Script:
    """Looks twice a second at whatever it is told is there, and notes what is done when."""

    def __init__(self) -> None:
        self.now = 100.0
        self.memory = Memory()
        self.done: list[tuple[float, Redispatch | Dismissal]] = []
        self.noticed: list[tuple[float, str]] = []
        self.told: list[tuple[float, str]] = []
        self.begun = self.now

    def look(
        self,
        *rooms: RoomSeen,
        live: tuple[LeaseRow, ...] = (),
        expired: tuple[LeaseRow, ...] = (),
        free: float | None = 1,
        seconds: float = LOOK,
        writable: bool = True,
        doubtful: bool = False,
    ) -> list[Redispatch | Dismissal]:
        end = self.now + seconds
        actions: list[Redispatch | Dismissal] = []
        while self.now < end:
            names = unserved([room.name for room in rooms], live)
            unserved_rooms = tuple(room for room in rooms if room.name in names)
            seen = Seen(self.now, unserved_rooms, live, expired, free, writable, doubtful)
            before = self.memory
            found, self.memory = plan(seen, before)
            noticed, told = newly_noticed(before, self.memory)
            self.noticed += [(self.now - self.begun, name) for name in noticed]
            self.told += [(self.now - self.begun, name) for name in told]
            actions += found
            self.done += [(self.now - self.begun, action) for action in found]
            self.now += LOOK
        return actions

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.done]


def test_a_room_whose_lease_expired_is_sent_a_new_agent_at_the_first_look() -> None:
    dead = replace(ROOM, agents=("agent-old",))
    (action,) = Script().look(dead, expired=(LEASE,))
    assert action == Redispatch("room", "the agent stopped renewing its lease", ("agent-old",), LEASE, PAUSES[0])


def test_a_room_with_a_live_lease_is_left_alone() -> None:
    script = Script()
    assert script.look(ROOM, live=(LEASE,), seconds=60) == []
    assert script.memory.rooms == {}


def test_a_room_that_nobody_is_in_is_left_alone() -> None:
    assert Script().look(RoomSeen("room", (), ("agent-old",)), expired=(LEASE,), seconds=60) == []


def test_a_new_room_gives_its_agent_time_to_come() -> None:
    script = Script()
    assert script.look(ROOM, seconds=COMES_WITHIN) == []
    (action,) = script.look(ROOM)
    assert action.reason == "no agent came"
    assert action.lease is None


def test_an_agent_that_has_come_is_given_time_to_claim_the_conversation() -> None:
    script = Script()
    script.look(ROOM, seconds=1.0)
    come = replace(ROOM, agents=("agent-new",))
    assert script.look(come, seconds=CLAIMS_WITHIN) == []
    (action,) = script.look(come)
    assert action.stale == ("agent-new",)


def test_a_new_agent_on_its_way_is_waited_for_though_the_old_lease_is_still_expired() -> None:
    script = Script()
    both = replace(ROOM, agents=("agent-old", "agent-new"))
    assert script.look(both, expired=(LEASE,), seconds=5) == []


def test_dispatches_for_one_room_come_further_and_further_apart() -> None:
    script = Script()
    script.look(ROOM, seconds=60)
    assert script.times == [2.0, 6.0, 14.0, 29.0, 44.0, 59.0]


def test_a_fenced_lease_keeps_the_back_off_going() -> None:
    script = Script()
    script.look(ROOM, expired=(LEASE,))
    fenced = replace(LEASE, token="t2", holder=FENCED)
    assert script.look(ROOM, live=(fenced,), seconds=PAUSES[0] - LOOK) == []
    (again,) = script.look(ROOM, expired=(fenced,))
    assert again.pause == PAUSES[1]


def test_a_fenced_lease_keeps_other_token_servers_away() -> None:
    assert Script().look(ROOM, live=(replace(LEASE, holder=FENCED),), seconds=10) == []


def test_once_served_a_room_starts_from_the_beginning() -> None:
    script = Script()
    script.look(ROOM, seconds=20)
    script.look(ROOM, live=(LEASE,))
    assert script.look(ROOM, seconds=COMES_WITHIN) == []
    (action,) = script.look(ROOM)
    assert action.pause == PAUSES[0]


def test_without_a_worker_or_a_place_nothing_is_sent_and_then_at_once() -> None:
    script = Script()
    assert script.look(ROOM, expired=(LEASE,), free=None, seconds=30) == []
    assert script.look(ROOM, expired=(LEASE,), free=0, seconds=30) == []
    assert len(script.look(ROOM, expired=(LEASE,), free=1)) == 1


def test_without_a_worker_a_dead_agent_is_removed_once_so_that_people_see_that_nobody_hears_them() -> None:
    script = Script()
    dead = replace(ROOM, agents=("agent-old", "agent-other"))
    fenced = replace(LEASE, token="t2", holder=FENCED)
    assert script.look(dead, expired=(LEASE,), free=None, seconds=CLAIMS_WITHIN) == []
    assert script.look(dead, expired=(LEASE,), free=None) == [Dismissal("room", "agent-old", LEASE)]
    assert script.look(dead, expired=(fenced,), free=None, seconds=30) == []
    (action,) = script.look(ROOM, expired=(fenced,), free=1)
    assert isinstance(action, Redispatch) and (action.lease, action.pause) == (fenced, PAUSES[0])


def test_a_conversation_that_went_on_elsewhere_is_not_taken_back() -> None:
    elsewhere = replace(LEASE, kind="compat", place="socket")
    assert Script().look(ROOM, live=(elsewhere,), seconds=60) == []


def test_the_lease_of_a_websocket_brings_no_agent_into_a_room_at_once() -> None:
    script = Script()
    assert script.look(ROOM, expired=(replace(LEASE, kind="compat", place="socket"),)) == []


def test_after_an_absence_of_our_own_the_holders_may_renew_first() -> None:
    script = Script()
    script.look(ROOM, live=(LEASE,))
    script.now += BLINK + 5  # frozen, or the machine slept
    assert script.look(ROOM, expired=(LEASE,), seconds=RECOVERY) == []
    assert len(script.look(ROOM, expired=(LEASE,))) == 1


def test_after_the_database_could_not_be_written_the_holders_may_renew_first() -> None:
    script = Script()
    assert script.look(ROOM, expired=(LEASE,), writable=False, seconds=60) == []
    assert script.look(ROOM, expired=(LEASE,), seconds=REACHED_AGAIN - LOOK) == []
    assert len(script.look(ROOM, expired=(LEASE,))) == 1


def test_a_clock_that_was_set_or_a_busy_machine_is_no_reason_to_replace_anybody() -> None:
    script = Script()
    script.look(ROOM, live=(LEASE,))
    assert script.look(ROOM, expired=(LEASE,), doubtful=True) == []
    assert script.look(ROOM, expired=(LEASE,), seconds=RECOVERY - LOOK) == []
    assert len(script.look(ROOM, expired=(LEASE,))) == 1, "who has not renewed by now is dead"


def test_each_room_has_its_own_clock() -> None:
    script = Script()
    other = RoomSeen("other", (Person("ben", "other"),))
    script.look(ROOM, seconds=1.0)
    script.look(ROOM, other, seconds=3.0)
    assert [(at, action.room) for at, action in script.done] == [(2.0, "room"), (3.0, "other")]


def test_a_room_that_closed_is_forgotten() -> None:
    script = Script()
    script.look(ROOM, seconds=3)
    script.look()
    assert script.memory.rooms == {}


def test_a_room_without_an_agent_is_noticed_once_within_two_seconds_repaired_or_not() -> None:
    for free in (1, 0, None):
        script = Script()
        script.look(ROOM, free=free, seconds=20)
        ((at, room),) = script.noticed
        assert room == "room"
        assert at + LOOK <= 2.0


def test_a_dead_agent_is_noticed_at_the_first_look() -> None:
    script = Script()
    script.look(replace(ROOM, agents=("agent-old",)), expired=(LEASE,))
    assert script.noticed == [(0.0, "room")]


def test_a_room_whose_agent_is_on_its_way_or_there_is_not_noticed() -> None:
    script = Script()
    script.look(ROOM, seconds=1.0)
    script.look(replace(ROOM, agents=("agent-new",)), seconds=5)
    script.look(ROOM, live=(LEASE,), seconds=20)
    assert script.noticed == []


def test_the_next_time_it_loses_its_agent_it_is_noticed_again() -> None:
    script = Script()
    script.look(ROOM, seconds=3)
    script.look(ROOM, live=(replace(LEASE, place="elsewhere"),), seconds=1)
    script.look(ROOM, seconds=3)
    assert len(script.noticed) == 2


def test_people_whose_agent_found_no_place_are_told_once_that_all_are_taken() -> None:
    script = Script()
    script.look(ROOM, free=0, seconds=30)
    ((at, _),) = script.told
    assert TOLD_AFTER <= at <= TOLD_AFTER + LOOK
    for free in (1, None):
        other = Script()
        other.look(ROOM, free=free, seconds=30)
        assert other.told == []
