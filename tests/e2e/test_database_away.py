"""While another program keeps the database locked, those who talk go on talking, and others are told at once.

What is said meanwhile is stored once it can be, also where the person has hung up by then. A program that stands still
in the middle of a write locks it as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.faults import FROZEN_FOR, database, eventually, history, holder, locked
from tests.e2e.legacy_client import LegacyClient
from tests.e2e.persistent import InRoom, OnSocket
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import ROOT, Stack, answer
from tests.e2e.waiting import PATIENCE

LOCKED_FOR = 30.0
"""Seconds; every lease would expire twenty times over."""

NAME, MUSIC, WHAT_NAME = "My name is Mary.", "What do you think about music?", "What is my name?"
HOME, WHERE_HOME = "I live in Rome.", "Where do I live?"


@contextmanager
def frozen_in_a_write(stack: Stack, *, killed: bool) -> Iterator[None]:
    """A program that stands still in the middle of a write; it finishes that in the end, or is killed."""
    command = [sys.executable, str(ROOT / "tests" / "e2e" / "writer.py"), str(database(stack))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        os.kill(writer.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            if killed:
                writer.kill()
            os.kill(writer.pid, signal.SIGCONT)
            said, _ = writer.communicate("finish it\n", timeout=PATIENCE)
    assert said == ("" if killed else "written\n")


@dataclass(frozen=True, slots=True)
class Pair:
    """Somebody on a WebSocket and somebody in a room, who say the same."""

    legacy: LegacyClient
    person: RoomClient
    sessions: tuple[str, str]

    async def say(self, text: str) -> None:
        """Type a message on either way, and wait for the answers."""
        turn = len(self.person.said("agent"))
        await asyncio.gather(self.legacy.send({"type": "text", "text": text}), self.person.type(text))
        await asyncio.gather(
            self.legacy.message("transcript", number=turn, role="agent", final=True), self.person.heard("agent", turn)
        )


@asynccontextmanager
async def talking(stack: Stack) -> AsyncIterator[Pair]:
    """A pair; in the end the same processes have held both conversations, and all that was said is stored once."""
    sessions = (f"away-{uuid.uuid4().hex}", f"away-{uuid.uuid4().hex}")
    async with (
        LegacyClient(stack.compat, sessions[0], agent="storyteller", query="events=1") as legacy,
        RoomClient(stack.page, sessions[1], personality="storyteller") as person,
    ):
        await legacy.message("ready")
        await person.agent()
        pair = Pair(legacy, person, sessions)
        await pair.say(NAME)
        holders = [holder(stack, session) for session in sessions]
        yield pair
        await pair.say(WHAT_NAME)
        assert "Mary" in legacy.said("agent")[-1]
        assert "Mary" in person.said("agent")[-1]
        assert [holder(stack, session) for session in sessions] == holders, "somebody was replaced"
        said = person.said("user")
        for session in sessions:
            await eventually(lambda session=session: told(stack, session) == said, f"stored: {said}")
    assert await becomes(f"{stack.page}/health", 200)


def told(stack: Stack, session: str) -> list[str]:
    """What is stored of what somebody said, in order."""
    return [one.content for one in history(stack, session) if one.role == "user"]


async def test_a_database_that_is_locked_for_long_costs_nobody_their_conversation(stack: Stack) -> None:
    leaving: list[OnSocket | InRoom] = [OnSocket(stack, "storyteller"), InRoom(stack, "storyteller")]
    async with talking(stack) as pair:
        await asyncio.gather(*(talk.connect() for talk in leaving))
        await asyncio.gather(*(talk.ask(NAME, "Mary") for talk in leaving))
        end = asyncio.get_running_loop().time() + LOCKED_FOR
        with locked(stack):
            await pair.say(MUSIC)
            await asyncio.gather(*(talk.ask(HOME, "Rome") for talk in leaving))
            await asyncio.gather(*(talk.close() for talk in leaving))
            await others_are_told(stack)
            await asyncio.sleep(end - asyncio.get_running_loop().time())
            await pair.say(HOME)
    # Who hung up while nothing could be written finds all of it.
    try:
        await asyncio.gather(*(talk.ask(WHERE_HOME, "Rome") for talk in leaving))
        for talk in leaving:
            assert told(stack, talk.session)[:2] == [NAME, HOME], talk.session
    finally:
        await asyncio.gather(*(talk.close() for talk in leaving))


@pytest.mark.parametrize("killed", [False, True], ids=["and goes on", "and is killed"])
async def test_a_writer_that_is_frozen_in_the_middle_of_a_write_costs_nobody_their_conversation(
    stack: Stack, killed: bool
) -> None:
    async with talking(stack) as pair:
        with frozen_in_a_write(stack, killed=killed):
            await pair.say(MUSIC)
            await asyncio.gather(asyncio.sleep(FROZEN_FOR), others_are_told(stack))


async def others_are_told(stack: Stack) -> None:
    """Who comes now is refused in words, instead of waiting; health says why."""
    assert await becomes(f"{stack.page}/health", 503, "is locked")
    async with httpx.AsyncClient() as http:
        refused = await http.post(f"{stack.page}/api/token", json={}, timeout=10)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "unavailable"
    assert "database" in refused.json()["error"]["message"]
    assert int(refused.headers["Retry-After"]) > 0
    async with connect(f"{stack.compat}/ws/late-{uuid.uuid4().hex}") as socket:
        await socket.send(json.dumps({"agentId": "storyteller", "userId": "u", "agentName": ""}))
        told = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))
        assert (told["type"], told["code"]) == ("error", "unavailable")
        with suppress(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), PATIENCE)
        assert socket.close_code == 1013


async def becomes(address: str, wanted: int, reason: str = "") -> bool:
    """Whether a health page comes to answer so."""
    for _ in range(100):
        status, body = await asyncio.to_thread(answer, address)
        if status == wanted and reason in str(body):
            return True
        await asyncio.sleep(0.1)
    return False
