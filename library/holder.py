"""Holding conversations: a process claims them, renews its leases in one write, and learns when it has lost one.

A lease is a row that names a token. A claim writes a new token over whatever was there, so the newest
claim wins; the former holder's token is then nowhere to be found, which its next renewal notices. A row
is only ever renewed or deleted by its token, so a late process cannot touch what is no longer its own.

While the database can't be written (locked, full, being restarted) nobody can take a conversation over either,
so it goes on. Its holder keeps trying, and looks whether the row still names its token, which a locked or full
database lets it read. Only who finds another token there, or can't even read for `STRANDED` seconds, has lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, Protocol

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engines.tally import tally
from engines.types import Capacity
from library import drafts
from library.clock import REAL, Clock
from library.database import Database
from library.drafts import Draft
from library.errors import DatabaseError, LibraryError
from library.models import HolderTable, LeaseTable
from library.text import check_session_id, storable, storable_json

log = logging.getLogger("voice_node.library")

EXPIRY = 1.5
"""Seconds after its last renewal at which a lease counts as abandoned."""

RENEWAL = 0.5
"""Seconds between renewals."""

STRANDED = 300.0
"""Seconds after which a conversation ends whose lease could neither be renewed nor read: others may have taken it."""

PATIENCE = 3.0
"""Seconds that a renewal waits for others that write. On a machine without a free core they may take a second or two,
and it is no use to call that a database that is locked."""

START_PATIENCE = 20.0
"""Seconds that the first one waits."""

GOODBYE = 5.0
"""Seconds that giving everything back may take at the end."""

Kind = Literal["agent", "compat", "console", "page", "stt", "chat", "tts"]
"""What a process is. The last three hold calls, the page nothing, the others conversations."""

Limit = int | Literal["held"] | None
"""How much a process takes; see `LeaseHolder`."""


class HasDatabase(Protocol):
    """What a holder needs of the library."""

    @property
    def database(self) -> Database:
        """The open database."""
        ...


class Lease:
    """The right to hold and write one conversation, until it is released or another one claims it."""

    def __init__(self, holder: LeaseHolder, session_id: str, place: str, metadata: dict[str, Any]) -> None:
        self.session_id = session_id
        self.place = place
        self.metadata = metadata
        self.token = uuid.uuid4().hex
        self.lost = asyncio.Event()
        """Set once the lease belongs to another holder, or the database was out of reach for `STRANDED` seconds."""
        self.seen = 0.0
        """When it was last known to be ours, by the steady clock as it was before the database was asked."""
        self.draft: Draft | None = None
        """The reply that is being spoken; every renewal stores what was heard of it."""
        self._holder = holder

    @property
    def held(self) -> bool:
        """Whether the conversation is still ours as far as we know; false for good once lost or released."""
        return self._holder.holds(self)

    def lose(self) -> None:
        """Note that the lease is gone; whoever waits for `lost` goes on."""
        self._holder.forget(self)
        self.lost.set()

    async def row_of(self, draft: Draft) -> int | None:
        """The row that a draft, which isn't this lease's any more, has got; None where nothing of it was stored."""
        async with self._holder.renewing:
            return draft.row

    async def release(self) -> None:
        """Give the conversation back; idempotent. If the database fails, the next renewal does it."""
        await self._holder.release(self)


class LeaseHolder:
    """What this process holds. One per process.

    Args:
        source: The library, or its database.
        kind: What the process is.
        limit: How many conversations it would hold at once, None where it has no limit, "held" where it takes no
            more than it holds. May be changed later through the attribute `limit`; the next renewal tells the others.
        clock: The time; tests set their own.
        capacity: What a process holds that holds no conversations: asked at each renewal, in place of `limit`.
    """

    def __init__(
        self,
        source: HasDatabase | Database,
        kind: Kind,
        limit: Limit,
        *,
        clock: Clock = REAL,
        capacity: Callable[[], Capacity] | None = None,
    ) -> None:
        self._capacity = capacity
        self._database = source if isinstance(source, Database) else source.database
        self.kind = kind
        self.limit: Limit = limit
        self.id = f"{kind}-{socket.gethostname()[:60]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._unwanted: set[str] = set()
        """Tokens of released leases whose rows could not be deleted yet."""
        self.renewing = asyncio.Lock()
        """Held while leases are written."""
        self._task: asyncio.Task[None] | None = None
        self._renewed = 0.0
        self._trouble = ""

    @property
    def trouble(self) -> str:
        """Why leases can't be renewed at the moment, with what to do about it; empty where they can."""
        return self._trouble

    @property
    def silent_for(self) -> float:
        """Seconds since this process last told the others that it is there."""
        return self._clock.steady() - self._renewed

    @property
    def held(self) -> int:
        """How many conversations this process holds."""
        return len(self._leases)

    async def start(self) -> None:
        """Tell the others that this process is there, and begin renewing.

        Raises:
            DatabaseError: The database failed.
        """
        if self._task is None:
            await self.renew(START_PATIENCE)
            self._task = asyncio.create_task(self._keep_renewing(), name="renew leases")

    async def claim(self, session_id: str, place: str, metadata: dict[str, Any] | None = None) -> Lease:
        """Take a conversation, from another holder if need be; returns when that is written.

        An earlier lease of this process for the same conversation is lost at once; another process
        learns of its loss at its next renewal.

        Args:
            session_id: The conversation.
            place: Where it goes on (a room's name, a socket).
            metadata: What a new holder would need to go on, kept beside the lease (JSON values only).

        Raises:
            LibraryError: The holder was not started, or is closed.
            SessionIdError: The session id can't name a conversation.
            ValueError: The metadata holds something that isn't JSON.
            DatabaseError: The database failed.
        """
        if self._task is None:
            raise LibraryError("the lease holder isn't running: await start() before claiming")
        check_session_id(session_id)
        lease = Lease(self, session_id, storable(place), storable_json(metadata or {}))
        async with self.renewing:
            begun = self._clock.steady()
            try:
                async with self._database.transaction() as session:
                    now = self._now()
                    columns = {
                        "token": lease.token,
                        "holder": self.id,
                        "kind": self.kind,
                        "place": lease.place,
                        "metadata": lease.metadata,
                        "claimed_at": now,
                        "expires_at": now + EXPIRY,
                    }
                    row = {"session_id": session_id} | columns
                    await session.execute(self._database.upsert(LeaseTable, "session_id", row, changes=columns))
                    await self._tell(session, now, len(self._leases.keys() | {session_id}))
            except BaseException:
                self._unwanted.add(lease.token)  # a cancelled claim may have been written all the same
                raise
            former = self._leases.get(session_id)
            self._leases[session_id] = lease
            lease.seen = begun
            if former is not None:
                tally("leases_lost", reason="taken")
                former.lost.set()
        return lease

    async def renew(self, patience: float = PATIENCE, *, drafts_too: bool = True) -> None:
        """Renew all leases, store what is being spoken and tell what this process holds, in one write.

        Leases found gone are lost.

        The loop begun by `start` calls this every `RENEWAL` seconds.

        Args:
            patience: Seconds to wait for others that write.
            drafts_too: Whether what is being spoken is stored.

        Raises:
            DatabaseError: The database failed; nothing was renewed.
        """
        async with self.renewing:
            mine = {lease.token: lease for lease in self._leases.values()}
            unwanted = set(self._unwanted)
            begun = self._clock.steady()
            renewed: set[str] = set()
            async with self._database.transaction(patience) as session:
                now = self._now()  # once it is our turn to write, which may take a while
                if unwanted:
                    await session.execute(delete(LeaseTable).where(LeaseTable.token.in_(unwanted)))
                if mine:
                    renew = update(LeaseTable).where(LeaseTable.token.in_(mine)).values(expires_at=now + EXPIRY)
                    renewed = set(await session.scalars(renew.returning(LeaseTable.token)))
                spoken = {one.session_id: one.draft for one in mine.values() if one.token in renewed and one.draft}
                spoken = spoken if drafts_too else {}
                committed = await drafts.write(session, spoken)
                await self._tell(session, now, self.held)
            committed()
            self._unwanted -= unwanted
            self._renewed = begun
            self._settle(mine, renewed, begun)

    async def verify(self) -> None:
        """See whether our leases are still ours, where they can be read but not written.

        Raises:
            DatabaseError: The database failed; nothing is known.
        """
        mine = {lease.token: lease for lease in self._leases.values()}
        if mine:
            begun = self._clock.steady()
            async with self._database.session() as session:
                ours = select(LeaseTable.token).where(LeaseTable.token.in_(mine))
                self._settle(mine, set(await session.scalars(ours)), begun)

    def holds(self, lease: Lease) -> bool:
        """Whether this is the lease under which this process holds the conversation."""
        return self._leases.get(lease.session_id) is lease

    def forget(self, lease: Lease) -> None:
        """Stop renewing a lease; its row is left alone."""
        if self.holds(lease):
            del self._leases[lease.session_id]

    async def release(self, lease: Lease) -> None:
        """Give a conversation back; idempotent. If the database fails, the next renewal does it."""
        if not self.holds(lease):
            return
        self.forget(lease)
        self._unwanted.add(lease.token)
        try:
            async with self.renewing, self._database.transaction() as session:
                await session.execute(delete(LeaseTable).where(LeaseTable.token == lease.token))
                await self._tell(session, self._now(), self.held)
        except DatabaseError as error:
            log.warning("lease not released yet", extra={"session": lease.session_id, "reason": str(error)})
        else:
            self._unwanted.discard(lease.token)

    async def aclose(self) -> None:
        """Stop renewing, release everything, and take this process off the list; idempotent."""
        if self._task is None:
            return
        task, self._task = self._task, None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            # bounded: what can't be deleted now expires by itself
            async with asyncio.timeout(GOODBYE), self.renewing, self._database.transaction() as session:
                tokens = self._unwanted | {lease.token for lease in self._leases.values()}
                self._leases.clear()
                if tokens:
                    await session.execute(delete(LeaseTable).where(LeaseTable.token.in_(tokens)))
                await session.execute(delete(HolderTable).where(HolderTable.id == self.id))
        except (DatabaseError, TimeoutError) as error:
            self._leases.clear()
            log.warning("leases left to expire", extra={"holder": self.id, "reason": str(error) or "no answer"})

    def _now(self) -> ColumnElement[float]:
        return self._database.moment(self._clock.now() if self._clock.now else None)

    async def _tell(self, session: AsyncSession, now: ColumnElement[float], held: int) -> None:
        limit = held if self.limit == "held" else self.limit
        if self._capacity is not None:
            of = self._capacity()
            held, limit = of.held, of.limit
        state = {"kind": self.kind, "held": held, "limit": limit, "at": now}
        await session.execute(self._database.upsert(HolderTable, "id", {"id": self.id} | state, changes=state))

    def _settle(self, mine: Mapping[str, Lease], found: Collection[str], asked_at: float) -> None:
        """Note which leases the database has under our tokens; the others are lost."""
        for token, lease in mine.items():
            if token in found:
                lease.seen = asked_at
            elif self.holds(lease):  # not released meanwhile
                log.info("lease lost", extra={"session": lease.session_id, "holder": self.id})
                tally("leases_lost", reason="taken")
                lease.lose()

    async def _keep_renewing(self) -> None:
        took = 0.0
        while True:
            await self._clock.sleep(max(0.05, RENEWAL - took))
            begun = self._clock.steady()
            await self._renew_watched()
            took = self._clock.steady() - begun

    async def _renew_watched(self) -> None:
        """Renew once, whatever happens.

        A database that hangs is noticed by waiting in rounds: a process that was frozen for a while
        misses one round at most, and doesn't take its own absence for the database's.
        """
        renewal = asyncio.create_task(self._renew_or_verify())
        try:
            waited = 0.0
            while not await self._done(renewal, RENEWAL):
                waited += RENEWAL
                if waited > PATIENCE:
                    self._fail("the database doesn't answer")
            await renewal
        except asyncio.CancelledError:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
            raise
        except Exception as error:  # the loop must outlive whatever a driver raises
            self._fail(str(error) or type(error).__name__)
        else:
            self._trouble = ""

    async def _renew_or_verify(self) -> None:
        try:
            await self.renew()
            return
        except DatabaseError as error:
            failure = error
        if any(lease.draft for lease in self._leases.values()):
            # A disk that is nearly full may have room for the leases alone.
            with contextlib.suppress(DatabaseError):
                await self.renew(0.0, drafts_too=False)
                return
        with contextlib.suppress(DatabaseError):
            await self.verify()
        raise failure

    async def _done(self, task: asyncio.Task[None], within: float) -> bool:
        timeout = asyncio.ensure_future(self._clock.sleep(within))
        try:
            await asyncio.wait({task, timeout}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timeout.cancel()
        return task.done()

    def _fail(self, reason: str) -> None:
        self._trouble = reason
        for lease in list(self._leases.values()):
            if self._clock.steady() - lease.seen > STRANDED:
                log.error(
                    "the conversation ends, the database was out of reach for too long",
                    extra={"session": lease.session_id, "seconds": STRANDED},
                )
                tally("leases_lost", reason="stranded")
                lease.lose()
