"""Who holds which conversation, as the others see it; and the names of the holding side (library/holder.py).

A lease that isn't renewed for `EXPIRY` seconds is expired: its holder is dead, frozen or cut off. The row
stays for a while, because it says how to go on; `Leases.fence` takes it away from its holder for good, so
that a frozen one that wakes up finds itself replaced.

Moments are those of the clock that all processes on the database share (`Database.moment`). Where that is set
forward, every lease shows as expired until its holder renews it, half a second later at most: who acts on expired
leases must allow for that (token_server/dispatch_policy.py). Where it is set back, a row may be from the future; one
that is further ahead than any lease lasts is nobody's.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, not_, select, update

from library.clock import REAL, Clock
from library.database import Database
from library.holder import EXPIRY, RENEWAL, Kind, Lease, LeaseHolder
from library.models import HolderTable, LeaseTable

__all__ = ["EXPIRY", "RENEWAL", "HolderRow", "Kind", "Lease", "LeaseHolder", "LeaseRow", "Leases"]

KEPT = 60.0
"""Seconds that the rows of dead processes are kept."""

LONGEST = 120.0
"""Seconds ahead up to which an expiry is believed; those that our programs write are 15 s ahead at most."""

FENCED = ""
"""Holder of a lease that was taken from its holder and waits for a new claim."""


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A lease as it was read."""

    session_id: str
    token: str
    holder: str
    """Id of the holding process; empty while a new one is being fetched (see `Leases.fence`)."""
    kind: str
    """`agent`, `compat` or `console`."""
    place: str
    metadata: dict[str, Any]
    claimed_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class HolderRow:
    """What a process holds."""

    id: str
    kind: str
    held: int
    limit: int | None
    at: float
    """Unix seconds of its last renewal."""


class Leases:
    """The leases of all processes, for reading.

    Args:
        database: Where they are.
        clock: The time; tests set their own.
    """

    def __init__(self, database: Database, *, clock: Clock = REAL) -> None:
        self._database = database
        self._clock = clock

    async def get(self, session_id: str) -> LeaseRow | None:
        """The lease of a conversation, live or expired; None where nobody holds it."""
        async with self._database.session() as session:
            row = await session.get(LeaseTable, session_id)
            return _lease(row) if row else None

    async def live(self) -> list[LeaseRow]:
        """The leases that hold now, oldest claim first."""
        async with self._database.session() as session:
            holds = self._holds(self._now())
            rows = await session.scalars(select(LeaseTable).where(holds).order_by(LeaseTable.claimed_at))
            return [_lease(row) for row in rows]

    async def expired(self, older_than: float = 0.0) -> list[LeaseRow]:
        """The leases whose holders stopped renewing, longest ago first.

        Args:
            older_than: Only those that expired at least so many seconds ago; 0 gives each from `EXPIRY`
                seconds after its last renewal on. They are kept until `tidy` deletes them.
        """
        async with self._database.session() as session:
            gone = not_(self._holds(self._now() - older_than))
            rows = await session.scalars(select(LeaseTable).where(gone).order_by(LeaseTable.expires_at))
            return [_lease(row) for row in rows]

    async def fence(self, lease: LeaseRow, seconds: float = EXPIRY) -> LeaseRow | None:
        """Take an expired lease from its holder, so that it is lost for it even if it wakes up.

        The row stays, with its metadata, held by nobody, and expires anew after `seconds`: time for the
        caller to have a new holder claim it, and only one caller at a time gets it.

        Args:
            lease: An expired lease, as `expired` gave it.
            seconds: How long the caller has before the lease shows as expired again.

        Returns:
            The lease under its new token; None where the holder renewed it after all, another one
            claimed it, or another caller was first.

        Raises:
            DatabaseError: The database failed, or others write for long: the holder may be waiting for them just as we.
        """
        async with self._database.transaction(patience=RENEWAL) as session:
            now = self._now()
            taken = (
                update(LeaseTable)
                .where(
                    LeaseTable.session_id == lease.session_id,
                    LeaseTable.token == lease.token,
                    not_(self._holds(now)),
                )
                .values(token=uuid.uuid4().hex, holder=FENCED, expires_at=now + seconds)
                .returning(LeaseTable)
            )
            row = await session.scalar(taken)
            return _lease(row) if row else None

    async def drop(self, lease: LeaseRow) -> bool:
        """Delete a lease that nobody needs any more (its room is gone); False where it changed hands meanwhile."""
        async with self._database.transaction() as session:
            gone = await session.scalars(
                delete(LeaseTable).where(LeaseTable.token == lease.token).returning(LeaseTable.session_id)
            )
            return gone.first() is not None

    async def holders(self) -> list[HolderRow]:
        """The processes that renewed within `EXPIRY` seconds, with what they hold and their limits."""
        async with self._database.session() as session:
            now = self._now()
            alive = and_(HolderTable.at > now - EXPIRY, HolderTable.at <= now + LONGEST)
            return [
                HolderRow(row.id, row.kind, row.held, row.limit, row.at)
                for row in await session.scalars(select(HolderTable).where(alive).order_by(HolderTable.id))
            ]

    async def now(self) -> float:
        """The present by the clock that all share, unix seconds."""
        async with self._database.session() as session:
            return float((await session.execute(select(self._now()))).scalar_one())

    async def tidy(self) -> None:
        """Delete the rows of processes that are long dead; never right after the clock was set, see above."""
        async with self._database.session() as session:
            long_ago = self._now() - KEPT
            old = select(LeaseTable.token).where(LeaseTable.expires_at <= long_ago).limit(1)
            if not list(await session.scalars(old)):
                old = select(HolderTable.id).where(HolderTable.at <= long_ago).limit(1)
                if not list(await session.scalars(old)):
                    return
        async with self._database.transaction() as session:
            long_ago = self._now() - KEPT
            await session.execute(delete(LeaseTable).where(LeaseTable.expires_at <= long_ago))
            await session.execute(delete(HolderTable).where(HolderTable.at <= long_ago))

    def _now(self) -> ColumnElement[float]:
        return self._database.moment(self._clock.now() if self._clock.now else None)

    def _holds(self, now: ColumnElement[float]) -> ColumnElement[bool]:
        return and_(LeaseTable.expires_at > now, LeaseTable.expires_at <= now + LONGEST)


def _lease(row: LeaseTable) -> LeaseRow:
    return LeaseRow(
        session_id=row.session_id,
        token=row.token,
        holder=row.holder,
        kind=row.kind,
        place=row.place,
        metadata=dict(row.meta),
        claimed_at=row.claimed_at,
        expires_at=row.expires_at,
    )
