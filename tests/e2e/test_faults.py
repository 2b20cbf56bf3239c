"""Any one part is killed, or stands still for five seconds: before, during and after a turn, the conversation goes on.

Somebody on the legacy WebSocket and somebody in a room talk at the same time, so that each fault meets both. They say
a question again where no answer comes, and connect again where their line has ended; nothing else is done for them.
What is left must be one conversation: what was said stands in its history once, in order, a cut reply as far as it was
heard; nobody is greeted twice, one agent is in the room, and no process is left behind.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from tests.e2e.faults import Fault, Message, alive, eventually, healed, history, holder, pids, struck
from tests.e2e.persistent import InRoom, OnSocket
from tests.e2e.stack import Stack

NAME, STORY, HOME = "My name is Mary.", "Tell me a story.", "I live in Rome."
WHAT_NAME, WHERE_HOME = "What is my name?", "Where do I live?"
GREETING = "Hi, I'm Nova."
SOUNDED = 1.5
"""Seconds of a reply that have sounded when it is cut off: more than lies between two renewals of a lease."""

Talk = OnSocket | InRoom


@pytest.mark.parametrize("part", ["chat", "tts", "server", "job", "agent", "livekit", "page"])
@pytest.mark.parametrize("kind", ["killed", "frozen"])
async def test_the_conversation_goes_on(through_services: Stack, part: str, kind: str) -> None:
    stack = through_services
    await healed(stack)
    socket, room = talks = OnSocket(stack), InRoom(stack)
    try:
        await asyncio.gather(*(talk.connect() for talk in talks))
        for talk in talks:
            await eventually(lambda talk=talk: greeted(history(stack, talk.session)), "greeted aloud")
        await everybody(talks, NAME, "Mary")

        fault = strike(stack, part, kind, room)
        await everybody(talks, WHAT_NAME, "Mary")
        await over(stack, fault)

        await asyncio.gather(*(talk.begin(STORY, SOUNDED) for talk in talks))
        assert all(talk.sounding() for talk in talks), "the reply is over before it could be cut"
        fault = strike(stack, part, kind, room)
        await everybody(talks, WHAT_NAME, "Mary")
        await over(stack, fault)

        await everybody_stored(stack, talks, HOME, "Rome")
        fault = strike(stack, part, kind, room)
        await over(stack, fault)
        await everybody_stored(stack, talks, WHERE_HOME, "Rome")

        assert len(room.agents()) == 1, "the new agent is alone with the person"
        assert socket.lines == (4 if (part, kind) == ("server", "killed") else 1), "no line broke without need"
        for talk in talks:
            intact(history(stack, talk.session), talk)
    finally:
        await asyncio.gather(*(talk.close() for talk in talks))


async def test_who_comes_back_at_once_after_livekit_server_died_is_heard(through_services: Stack) -> None:
    """They are mostly there before the agent, whose SDK waits longer after each attempt to mend its line."""
    stack, talk = through_services, InRoom(through_services)
    await healed(stack)
    try:
        await talk.connect()
        await talk.ask(NAME, "Mary")
        job = holder(stack, talk.session)
        fault = strike(stack, "livekit", "killed", talk)
        await talk.close()
        await talk.connect()
        await talk.ask(WHAT_NAME, "Mary", aloud=True)
        assert holder(stack, talk.session) == job, "the agent that was there goes on"
        await over(stack, fault)
    finally:
        await talk.close()


def strike(stack: Stack, part: str, kind: str, room: InRoom) -> Fault:
    """Kill or freeze a part; the job is that of the room."""
    (pid,) = [holder(stack, room.session)] if part == "job" else pids(stack, part)
    return struck(stack, kind, pid)


async def over(stack: Stack, fault: Fault) -> None:
    """Return once the fault is over and everything is well; whoever was replaced meanwhile has gone."""
    await fault.over()
    await healed(stack)
    replaced = fault.pid not in [pid for part in ("agent", "livekit") for pid in pids(stack, part)]
    if replaced and "forkserver" in stack.processes().get(fault.pid, ""):
        await eventually(lambda: not alive(fault.pid), "the end of a job that was replaced")


def greeted(messages: list[Message]) -> bool:
    """Whether the greeting was heard to its end."""
    return [one.interrupted for one in messages if one.content.startswith(GREETING)] == [False]


async def everybody(talks: tuple[Talk, ...], text: str, word: str) -> list[str]:
    """All of them say it; what they are answered."""
    return list(await asyncio.gather(*(talk.ask(text, word) for talk in talks)))


async def everybody_stored(stack: Stack, talks: tuple[Talk, ...], text: str, word: str) -> None:
    """All of them say it; returns once the whole replies are stored."""
    for talk, reply in zip(talks, await everybody(talks, text, word), strict=True):
        whole = Message("assistant", reply, False)
        await eventually(lambda talk=talk, whole=whole: history(stack, talk.session)[-1] == whole, f"stored: {whole}")


def intact(messages: list[Message], talk: Talk) -> None:
    """Check that a history holds all that was said, once and in order."""
    shown = "\n".join(map(str, messages))
    told = [one.content for one in messages if one.role == "user"]
    assert [text for text in told if text not in (WHAT_NAME, WHERE_HOME)] == [NAME, STORY, HOME], shown
    assert told.index(WHAT_NAME) in (1,) and told[-1] == WHERE_HOME, shown

    greetings = [at for at, one in enumerate(messages) if one.content.startswith(GREETING)]
    assert greetings == [0], f"greeted once, at the beginning\n{shown}"
    assert sum(text.startswith(GREETING) for text in talk.said()) == 1, talk.said()
    pairs = list(pairwise(messages))
    assert not [pair for pair in pairs if {one.role for one in pair} == {"assistant"}], f"a reply is doubled\n{shown}"

    answers = {before.content: after for before, after in pairs if before.role == "user"}
    story = answers[STORY]
    assert (story.role, story.interrupted) == ("assistant", True) and story.content, f"what was heard\n{shown}"
    assert any(said.startswith(story.content) for said in talk.said()), f"{story} of {talk.said()}"
    for question, word in ((NAME, "Mary"), (WHAT_NAME, "Mary"), (HOME, "Rome"), (WHERE_HOME, "Rome")):
        assert word in answers[question].content, shown
