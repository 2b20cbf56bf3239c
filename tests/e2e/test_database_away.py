"""While another program keeps the database locked, those who talk go on talking, and others are told at once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.legacy_client import LegacyClient
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import Stack, answer
from tests.e2e.waiting import PATIENCE

LOCKED_FOR = 5.0
"""Seconds; every lease would expire three times over."""


@contextmanager
def locked(stack: Stack) -> Iterator[None]:
    """Hold the database's write lock."""
    other = sqlite3.connect(stack.folder / "data" / "voice-node.db", isolation_level=None, timeout=10)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


async def test_a_locked_database_costs_nobody_their_conversation(stack: Stack) -> None:
    sessions = [f"locked-{uuid.uuid4().hex}" for _ in range(2)]
    async with (
        LegacyClient(stack.compat, sessions[0], agent="storyteller", query="events=1") as legacy,
        RoomClient(stack.page, sessions[1], personality="storyteller") as person,
    ):
        await legacy.message("ready")
        agent = await person.agent()
        await tell(legacy, person, "My name is Mary.", 0)
        with locked(stack):
            await tell(legacy, person, "What do you think about music?", 1)
            await asyncio.gather(asyncio.sleep(LOCKED_FOR), others_are_told(stack))
        await tell(legacy, person, "What is my name?", 2)
        assert "mary" in legacy.said("agent")[-1].lower()
        assert "mary" in person.said("agent")[-1].lower()
        assert (await person.agent()).identity == agent.identity, "the agent was replaced"
        for session in sessions:
            await stored(stack, session, ["My name is Mary.", "What do you think about music?", "What is my name?"])
    assert await becomes(f"{stack.page}/health", 200)


async def tell(legacy: LegacyClient, person: RoomClient, text: str, turn: int) -> None:
    """Type a message on either way, and wait for the answers."""
    await asyncio.gather(legacy.send({"type": "text", "text": text}), person.type(text))
    await asyncio.gather(
        legacy.message("transcript", number=turn, role="agent", final=True), person.heard("agent", turn)
    )


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


async def stored(stack: Stack, session: str, wanted: list[str]) -> None:
    """The history holds what the person typed, in order, once."""
    found: list[str] = []
    for _ in range(100):
        status, kept = await asyncio.to_thread(answer, f"{stack.service('chat')}/chat/{session}")
        found = [one["content"] for one in kept["messages"] if one["role"] == "user"] if status == 200 else []
        if found == wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"stored: {found}")
