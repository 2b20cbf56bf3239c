"""What was heard of a reply is stored while it is being spoken, so that a killed process loses none of it."""

from __future__ import annotations

import pytest

from conversation.history import History
from library import LeaseHolder, Library, StoredMessage
from library.drafts import Draft
from library.holder import Lease


@pytest.fixture
async def lease(library: Library) -> Lease:
    await library.conversations.remember("s")
    holder = LeaseHolder(library, "agent", 1)
    await holder.start()
    return await holder.claim("s", "room")


async def stored(library: Library) -> list[tuple[str, str, bool]]:
    return [(one.role, one.content, one.interrupted) for one in await library.conversations.messages("s")]


async def test_a_renewal_stores_what_was_heard_and_the_whole_reply_takes_its_place(
    library: Library, lease: Lease
) -> None:
    heard = ""
    draft = lease.draft = Draft(lambda: heard, at=1.0)
    await lease._holder.renew()
    assert await stored(library) == [], "nothing was heard yet"
    heard = "Once upon"
    await lease._holder.renew()
    await library.conversations.append("s", "user", "meanwhile")
    heard = "Once upon a time"
    await lease._holder.renew()
    assert await stored(library) == [("assistant", "Once upon a time", True), ("user", "meanwhile", False)]
    lease.draft = None
    row = await lease.row_of(draft)
    await library.conversations.append("s", "assistant", "Once upon a time.", lease=lease, row=row)
    await lease._holder.renew()
    assert await stored(library) == [("assistant", "Once upon a time.", False), ("user", "meanwhile", False)]
    await lease._holder.aclose()


async def test_who_lost_the_conversation_stores_no_draft(library: Library, lease: Lease) -> None:
    other = LeaseHolder(library, "agent", 1)
    await other.start()
    await other.claim("s", "elsewhere")
    lease.draft = Draft(lambda: "I am still here", at=1.0)
    await lease._holder.renew()
    assert not lease.held
    assert await stored(library) == []
    for holder in (lease._holder, other):
        await holder.aclose()


async def test_a_history_writes_each_reply_once_whether_or_not_a_draft_of_it_was_stored(
    library: Library, lease: Lease
) -> None:
    history = History(library, "s", lease=lease)
    for reply, renewed in (("One.", True), ("Two.", False), ("Three.", True)):
        history.speaks(lambda: "O")
        if renewed:
            await lease._holder.renew()
        history.write("assistant", reply, 1.0, False)
    await history.aclose()
    assert await stored(library) == [("assistant", reply, False) for reply in ("One.", "Two.", "Three.")]
    await lease._holder.aclose()


async def test_a_draft_whose_message_was_forgotten_is_written_anew(library: Library, lease: Lease) -> None:
    lease.draft = draft = Draft(lambda: "Hel", at=1.0)
    await lease._holder.renew()
    lease.draft = None
    await library.conversations.forget("s")
    said = await library.conversations.append("s", "assistant", "Hello.", row=await lease.row_of(draft))
    assert await library.conversations.messages("s") == [StoredMessage("assistant", "Hello.", said.at)]
    await lease._holder.aclose()
