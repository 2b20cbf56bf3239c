"""Who holds a conversation: the newest claim, for as long as it renews."""

from __future__ import annotations

import asyncio
import time as time_module
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from library import Database, DatabaseError, LeaseHolder, Leases, Library, LibraryError, SessionIdError
from library.clock import Clock
from library.holder import STRANDED, Limit
from library.leases import EXPIRY, FENCED, KEPT, RENEWAL, Kind

from .conftest import MakeSettings, eventually


class ManualTime:
    """A clock that stands still until it is moved; renewals happen when a test asks for them."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0
        self.clock = Clock(now=lambda: self.seconds, steady=lambda: self.seconds, sleep=self._forever)

    def move(self, seconds: float) -> None:
        self.seconds += seconds

    async def _forever(self, _seconds: float) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def time() -> ManualTime:
    return ManualTime()


@pytest.fixture
def leases(library: Library, time: ManualTime) -> Leases:
    return Leases(library.database, clock=time.clock)


@pytest.fixture
async def hold(library: Library, time: ManualTime) -> AsyncIterator[Callable[..., object]]:
    """Make holders, closed at the end."""
    made: list[LeaseHolder] = []

    async def make(kind: Kind = "agent", limit: Limit = None) -> LeaseHolder:
        holder = LeaseHolder(library, kind, limit, clock=time.clock)
        made.append(holder)
        await holder.start()
        return holder

    yield make
    for holder in made:
        await holder.aclose()


async def test_who_takes_no_more_than_it_holds_never_offers_a_place(hold, leases: Leases) -> None:
    async def told() -> tuple[int, int | None]:
        (process,) = await leases.holders()
        return process.held, process.limit

    holder = await hold("agent", "held")
    assert await told() == (0, 0)
    lease = await holder.claim("s1", "room")
    assert await told() == (1, 1)
    await holder.renew()
    assert await told() == (1, 1)
    lease.lose()
    await holder.renew()
    assert await told() == (0, 0)


async def test_a_claim_is_there_for_others_when_it_returns(hold, leases: Leases, time: ManualTime) -> None:
    holder = await hold("agent", 4)
    lease = await holder.claim("s", "room s", {"personality": "coach", "attributes": {"a": [1, 2]}})
    (row,) = await leases.live()
    assert (row.session_id, row.holder, row.kind, row.place) == ("s", holder.id, "agent", "room s")
    assert row.metadata == {"personality": "coach", "attributes": {"a": [1, 2]}}
    assert row.claimed_at == time.seconds
    assert row.expires_at == time.seconds + EXPIRY
    assert row == await leases.get("s")
    assert lease.held
    assert not lease.lost.is_set()
    (process,) = await leases.holders()
    assert (process.id, process.kind, process.held, process.limit) == (holder.id, "agent", 1, 4)


async def test_renewing_keeps_a_lease_and_not_renewing_ends_it(hold, leases: Leases, time: ManualTime) -> None:
    holder = await hold()
    await holder.claim("s", "room s")
    for _ in range(6):
        time.move(RENEWAL)
        await holder.renew()
    assert [row.session_id for row in await leases.live()] == ["s"]
    assert await leases.expired() == []
    time.move(EXPIRY)
    assert await leases.live() == []
    assert [row.session_id for row in await leases.expired()] == ["s"]
    assert await leases.expired(older_than=1.0) == []
    time.move(1.0)
    assert [row.session_id for row in await leases.expired(older_than=1.0)] == ["s"]
    assert await leases.holders() == []


async def test_the_newest_claim_wins_and_the_former_holder_learns_it(hold, leases: Leases, time: ManualTime) -> None:
    agent, compat = await hold("agent"), await hold("compat")
    old = await agent.claim("s", "room s")
    kept = await agent.claim("other", "room other")
    time.move(0.1)
    new = await compat.claim("s", "socket")
    time.move(0.1)
    await agent.renew()
    assert old.lost.is_set()
    assert not old.held
    assert kept.held
    assert new.held
    row = await leases.get("s")
    assert row is not None
    assert (row.holder, row.expires_at) == (compat.id, time.seconds - 0.1 + EXPIRY)
    await old.release()  # of a lost lease: touches nothing
    await compat.renew()
    assert new.held


async def test_a_second_claim_in_the_same_process_replaces_the_first_at_once(hold, leases: Leases) -> None:
    holder = await hold("compat")
    first = await holder.claim("s", "socket 1")
    second = await holder.claim("s", "socket 2")
    assert first.lost.is_set()
    assert not first.held
    assert second.held
    await holder.renew()
    await first.release()
    assert second.held
    assert holder.held == 1
    row = await leases.get("s")
    assert row is not None
    assert row.place == "socket 2"


async def test_of_many_claims_at_once_exactly_one_is_held(hold, leases: Leases) -> None:
    holders = [await hold("compat") for _ in range(3)]
    made = await asyncio.gather(*(holder.claim("s", f"{n}") for n in range(5) for holder in holders))
    for holder in holders:
        await holder.renew()
    held = [lease for lease in made if lease.held]
    assert len(held) == 1
    assert all(lease.lost.is_set() != lease.held for lease in made)
    row = await leases.get("s")
    assert row is not None
    assert row.token == held[0].token


async def test_release_gives_the_conversation_back(hold, leases: Leases) -> None:
    holder = await hold("agent", 2)
    lease = await holder.claim("s", "room s")
    await lease.release()
    await lease.release()
    assert not lease.held
    assert not lease.lost.is_set()
    assert await leases.get("s") is None
    (process,) = await leases.holders()
    assert process.held == 0
    await holder.renew()
    assert await leases.get("s") is None


async def test_a_closed_holder_leaves_nothing_behind(hold, leases: Leases) -> None:
    holder = await hold()
    lease = await holder.claim("s", "room s")
    await holder.aclose()
    await holder.aclose()
    assert not lease.held
    assert await leases.live() == []
    assert await leases.holders() == []
    with pytest.raises(LibraryError, match="start"):
        await holder.claim("s", "room s")


async def test_a_changed_limit_is_told_with_the_next_renewal(hold, leases: Leases) -> None:
    holder = await hold("agent", 2)
    holder.limit = 7
    await holder.renew()
    (process,) = await leases.holders()
    assert process.limit == 7


async def test_a_frozen_holder_that_nobody_replaced_goes_on(hold, leases: Leases, time: ManualTime) -> None:
    holder = await hold()
    lease = await holder.claim("s", "room s")
    time.move(20)
    await holder.renew()
    assert lease.held
    assert [row.session_id for row in await leases.live()] == ["s"]


async def test_a_fenced_lease_stays_lost_and_can_be_claimed_anew(hold, leases: Leases, time: ManualTime) -> None:
    frozen, fresh = await hold(), await hold()
    lease = await frozen.claim("s", "room s", {"user": "ann"})
    time.move(EXPIRY)
    (expired,) = await leases.expired()
    fenced = await leases.fence(expired, seconds=3.0)
    assert fenced is not None
    assert (fenced.holder, fenced.metadata, fenced.place) == (FENCED, {"user": "ann"}, "room s")
    assert await leases.fence(expired) is None, "only one caller gets it"
    await frozen.renew()
    assert lease.lost.is_set()
    assert await leases.expired() == [], "the caller has its time"
    time.move(3.0)
    (again,) = await leases.expired()
    assert again == fenced
    new = await fresh.claim("s", "room s", again.metadata)
    assert new.held
    assert await leases.fence(again) is None


async def test_a_renewed_lease_cant_be_fenced_or_dropped_by_what_was_read_before(
    hold, leases: Leases, time: ManualTime
) -> None:
    holder = await hold()
    lease = await holder.claim("s", "room s")
    time.move(EXPIRY)
    (expired,) = await leases.expired()
    await holder.renew()
    assert await leases.fence(expired) is None
    assert lease.held
    await holder.claim("s", "room s")
    assert await leases.drop(expired) is False
    row = await leases.get("s")
    assert row is not None
    assert await leases.drop(row) is True
    assert await leases.get("s") is None


async def test_rows_of_dead_processes_are_kept_a_while_and_then_cleaned_up(
    hold, library: Library, leases: Leases, time: ManualTime
) -> None:
    dead = await hold()
    await dead.claim("s", "room s")
    time.move(KEPT)
    assert [row.session_id for row in await leases.expired()] == ["s"]
    await leases.tidy()
    assert await leases.get("s") is not None
    time.move(EXPIRY + 0.1)
    await leases.tidy()
    assert await leases.expired() == []
    assert await leases.get("s") is None
    assert await leases.holders() == []
    early = Leases(library.database, clock=Clock(now=lambda: time.seconds - KEPT))
    assert await early.holders() == [], "the holder's row is gone, not just hidden"


async def test_metadata_that_a_database_cant_hold_is_cleaned_or_refused(hold, leases: Leases) -> None:
    holder = await hold()
    await holder.claim("s", "room\x00", {"a\x00": ["\ud800", 1.5, None, True]})
    row = await leases.get("s")
    assert row is not None
    assert (row.place, row.metadata) == ("room", {"a": ["?", 1.5, None, True]})
    for bad in (object(), float("nan"), b"x", {1}):
        with pytest.raises(ValueError, match="JSON values only"):
            await holder.claim("s", "room", {"a": bad})


async def test_closing_while_a_claim_is_under_way_leaves_nothing(hold, leases: Leases) -> None:
    for wait in range(5):
        holder = await hold()
        claims = [asyncio.create_task(holder.claim(f"s{number}", "room")) for number in range(4)]
        await asyncio.sleep(wait * 0.002)
        await holder.aclose()
        await asyncio.gather(*claims, return_exceptions=True)
        assert await leases.live() == []
        assert await leases.holders() == []
        assert holder.held == 0


async def test_bad_names_are_refused(hold) -> None:
    holder = await hold()
    with pytest.raises(SessionIdError):
        await holder.claim("", "room")
    assert holder.held == 0


def _failing(database: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the database fail until the returned function is called."""
    working = database.transaction

    @asynccontextmanager
    async def broken(_patience: float = 0.0) -> AsyncIterator[None]:
        raise DatabaseError("the disk is gone")
        yield

    monkeypatch.setattr(database, "transaction", broken)
    return lambda: monkeypatch.setattr(database, "transaction", working)


async def test_a_release_that_fails_is_made_up_for(
    hold, library: Library, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = await hold()
    lease = await holder.claim("s", "room s")
    repair = _failing(library.database, monkeypatch)
    await lease.release()
    repair()
    assert await leases.get("s") is not None
    await holder.renew()
    assert await leases.get("s") is None


async def test_a_lease_that_cant_be_renewed_but_read_is_kept(
    hold, library: Library, leases: Leases, time: ManualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who can't write, as no one can, has lost nothing; the row says whether somebody could after all."""
    holder = await hold()
    kept, taken = await holder.claim("s", "room s"), await holder.claim("t", "room t")
    elsewhere = Library(Database(library.database.url), library.personalities.default)
    other = LeaseHolder(elsewhere, "compat", None, clock=time.clock)
    await other.start()
    _failing(library.database, monkeypatch)
    time.move(STRANDED + 1)
    await holder._renew_watched()
    assert kept.held and taken.held
    assert holder.trouble == "the disk is gone"
    theirs = await other.claim("t", "socket")
    await holder._renew_watched()
    assert kept.held
    assert taken.lost.is_set() and theirs.held
    await other.aclose()
    await elsewhere.aclose()


async def test_a_lease_out_of_reach_for_too_long_is_lost(
    hold, library: Library, time: ManualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = await hold()
    lease = await holder.claim("s", "room s")
    repair = _failing(library.database, monkeypatch)
    monkeypatch.setattr(library.database, "session", library.database.transaction)
    time.move(STRANDED)
    await holder._renew_watched()
    assert lease.held
    time.move(0.1)
    await holder._renew_watched()
    assert lease.lost.is_set() and not lease.held
    repair()
    await holder._renew_watched()
    assert holder.trouble == ""
    assert (await holder.claim("s", "room s")).held


async def test_renewing_goes_on_after_failures(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """On real time, because the loop itself is meant; nothing here depends on how fast it is."""
    holder = LeaseHolder(library, "agent", None)
    await holder.start()
    try:
        lease = await holder.claim("s", "room s")
        repair = _failing(library.database, monkeypatch)

        async def troubled() -> bool:
            return bool(holder.trouble)

        await eventually(troubled)
        repair()

        async def renewed() -> bool:
            return not holder.trouble and [row.session_id for row in await library.leases.live()] == ["s"]

        await eventually(renewed)
        assert lease.held
    finally:
        await holder.aclose()


async def test_a_database_that_hangs_is_noticed(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = LeaseHolder(library, "agent", None)
    await holder.start()
    working = library.database.transaction

    @asynccontextmanager
    async def hanging(_patience: float = 0.0) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    async def troubled() -> bool:
        return holder.trouble == "the database doesn't answer"

    try:
        lease = await holder.claim("s", "room s")
        monkeypatch.setattr(library.database, "transaction", hanging)
        await eventually(troubled)
        assert lease.held
        monkeypatch.setattr(library.database, "transaction", working)
    finally:
        await holder.aclose()


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_clock_that_is_set_while_all_renew_loses_nothing(
    hold, leases: Leases, time: ManualTime, jump: float
) -> None:
    alive, dead = await hold(), await hold()
    lease, left = await alive.claim("s", "room s"), await dead.claim("t", "room t")
    time.move(jump)
    assert {row.session_id for row in await leases.expired()} == {"s", "t"}, "nobody has renewed by this clock yet"
    await alive.renew()
    assert lease.held and left.held
    assert [row.session_id for row in await leases.live()] == ["s"]
    assert [row.session_id for row in await leases.expired()] == ["t"], "the dead one shows, however far ahead it is"
    assert [process.id for process in await leases.holders()] == [alive.id]
    (gone,) = await leases.expired()
    assert await leases.fence(gone) is not None


async def test_processes_whose_clocks_differ_agree_on_postgresql(
    database_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines an hour apart: the database's own clock counts. One machine's processes share its clock."""
    library = await Library.open(make_settings(DATABASE_URL=database_url))
    holder = LeaseHolder(library, "agent", None)
    await holder.start()
    lease = await holder.claim("s", "room s")
    real = time_module.time
    if not library.database.sqlite:
        monkeypatch.setattr(time_module, "time", lambda: real() + 3600)
    assert [row.session_id for row in await library.leases.live()] == ["s"]
    assert abs(await library.leases.now() - real()) < 60
    assert lease.held
    await holder.aclose()
    await library.aclose()


async def test_a_cancelled_claim_holds_nothing(hold, leases: Leases, library: Library) -> None:
    holder = await hold()
    for wait in range(12):
        claim = asyncio.create_task(holder.claim(f"s{wait}", "room"))
        await asyncio.sleep(wait * 0.0005)
        claim.cancel()
        (result,) = await asyncio.gather(claim, return_exceptions=True)
        if not isinstance(result, asyncio.CancelledError):
            await result.release()
    await holder.renew()
    assert await leases.live() == []
    assert holder.held == 0
