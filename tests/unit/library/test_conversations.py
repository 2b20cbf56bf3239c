"""What is said is kept in order, whole or not at all, and outlives the process."""

from __future__ import annotations

import asyncio
import random

import pytest

from library import LeaseHolder, LeaseLost, Library, SessionIdError


async def test_messages_come_back_in_the_order_they_were_appended(library: Library) -> None:
    for number in range(5):
        await library.conversations.append("s", "user", f"question {number}")
        await library.conversations.append("s", "assistant", f"answer {number}")
    said = [message.content for message in await library.conversations.messages("s")]
    assert said == [f"{kind} {number}" for number in range(5) for kind in ("question", "answer")]


async def test_the_order_doesnt_depend_on_the_moments(library: Library) -> None:
    await library.conversations.append("s", "user", "first", at=50.0)
    await library.conversations.append("s", "assistant", "second", at=40.0)
    await library.conversations.append("s", "user", "third", at=40.0)
    messages = await library.conversations.messages("s")
    assert [(m.content, m.at) for m in messages] == [("first", 50.0), ("second", 40.0), ("third", 40.0)]


async def test_what_an_attempt_that_seemed_to_fail_has_written_is_not_written_twice(library: Library) -> None:
    append = library.conversations.append
    for _ in range(2):
        await append("s", "user", "yes", at=1.0)  # said twice
    await append("s", "user", "yes", at=2.0)
    await append("s", "user", "yes", at=2.0, again=True)
    await append("s", "user", "no", at=3.0, again=True)
    messages = await library.conversations.messages("s")
    assert [(m.content, m.at) for m in messages] == [("yes", 1.0), ("yes", 1.0), ("yes", 2.0), ("no", 3.0)]


async def test_a_limit_gives_the_newest_in_order(library: Library) -> None:
    for number in range(6):
        await library.conversations.append("s", "user", str(number))
    assert [m.content for m in await library.conversations.messages("s", limit=3)] == ["3", "4", "5"]
    assert await library.conversations.messages("s", limit=0) == []
    with pytest.raises(ValueError, match="limit must be 0 or more"):
        await library.conversations.messages("s", limit=-1)


async def test_an_interrupted_message_says_so(library: Library) -> None:
    await library.conversations.append("s", "assistant", "I was about", at=12.5, interrupted=True)
    (message,) = await library.conversations.messages("s")
    assert (message.role, message.content, message.at, message.interrupted) == ("assistant", "I was about", 12.5, True)


async def test_conversations_dont_mix(library: Library) -> None:
    await library.conversations.append("one", "user", "a")
    await library.conversations.append("two", "user", "b")
    assert [m.content for m in await library.conversations.messages("one")] == ["a"]
    assert await library.conversations.messages("three") == []


async def test_what_a_conversation_is_held_with_is_remembered(library: Library) -> None:
    assert await library.conversations.get("s") is None
    await library.conversations.append("s", "user", "hello", personality="coach", user="ann")
    await library.conversations.remember("s", voice="juno")
    kept = await library.conversations.get("s")
    assert kept is not None
    assert (kept.id, kept.personality, kept.voice, kept.user) == ("s", "coach", "juno", "ann")
    await library.conversations.remember("s", personality="assistant")
    kept = await library.conversations.get("s")
    assert kept is not None
    assert (kept.personality, kept.voice, kept.user) == ("assistant", "juno", "ann")


async def test_forgetting_deletes_the_messages_too(library: Library) -> None:
    await library.conversations.append("s", "user", "hello")
    assert await library.conversations.forget("s") is True
    assert await library.conversations.messages("s") == []
    assert await library.conversations.get("s") is None
    assert await library.conversations.forget("s") is False


@pytest.mark.parametrize("session_id", ["", " ", "a" * 201, "a\nb", "a\x00b", "\ud800"])
async def test_a_name_that_cant_be_kept_is_refused(library: Library, session_id: str) -> None:
    for refused in (
        library.conversations.messages(session_id),
        library.conversations.append(session_id, "user", "x"),
        library.conversations.get(session_id),
        library.conversations.remember(session_id, user="x"),
        library.conversations.forget(session_id),
    ):
        with pytest.raises(SessionIdError, match="1 to 200 printable characters"):
            await refused


async def test_long_and_foreign_names_are_kept(library: Library) -> None:
    for session_id in ("a" * 200, "Zimmer grün 7", "会議", "a/b?c=d%20'\"", "🙂"):
        await library.conversations.append(session_id, "user", session_id)
        assert [m.content for m in await library.conversations.messages(session_id)] == [session_id]


async def test_text_that_a_database_cant_hold_is_kept_without_it(library: Library) -> None:
    await library.conversations.append("s", "user", "a\x00b \ud83d c", user="\x00u")
    (message,) = await library.conversations.messages("s")
    assert message.content == "ab ? c"


async def test_an_unknown_role_is_refused(library: Library) -> None:
    with pytest.raises(ValueError, match="system, user, assistant"):
        await library.conversations.append("s", "robot", "x")  # type: ignore[arg-type]


async def test_a_lease_lets_its_holder_write_until_someone_else_claims(library: Library) -> None:
    old, new = LeaseHolder(library, "agent", None), LeaseHolder(library, "compat", None)
    await old.start()
    await new.start()
    try:
        mine = await old.claim("s", "room s")
        await library.conversations.append("s", "user", "kept", lease=mine)
        theirs = await new.claim("s", "socket")
        with pytest.raises(LeaseLost):
            await library.conversations.append("s", "assistant", "too late", lease=mine)
        assert mine.lost.is_set()
        assert not mine.held
        await library.conversations.append("s", "user", "kept too", lease=theirs)
        assert [m.content for m in await library.conversations.messages("s")] == ["kept", "kept too"]
        with pytest.raises(ValueError, match="another conversation"):
            await library.conversations.append("other", "user", "x", lease=theirs)
    finally:
        await old.aclose()
        await new.aclose()


async def test_a_released_lease_writes_nothing(library: Library) -> None:
    holder = LeaseHolder(library, "agent", None)
    await holder.start()
    lease = await holder.claim("s", "room s")
    await holder.aclose()
    with pytest.raises(LeaseLost):
        await library.conversations.append("s", "user", "x", lease=lease)
    assert await library.conversations.get("s") is None


async def test_a_cancelled_append_leaves_no_half_and_no_lock(library: Library) -> None:
    """A conversation that ends while it writes must not keep the others from writing."""
    chance = random.Random(3)
    for number in range(60):
        task = asyncio.create_task(library.conversations.append("s", "user", str(number), user=str(number)))
        await asyncio.sleep(chance.uniform(0, 0.004))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await library.conversations.append("s", "user", "last")
    said = [message.content for message in await library.conversations.messages("s")]
    assert said[-1] == "last"
    numbers = [int(content) for content in said[:-1]]
    assert numbers == sorted(set(numbers))
    kept = await library.conversations.get("s")
    assert kept is not None
    assert kept.user == (str(numbers[-1]) if numbers else None)
