"""A compat server on a free port, in the test's own event loop, with conversations that do as the test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from livekit import rtc
from livekit.agents.voice import io
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from compat_ws.equipment import Equipment
from compat_ws.service import create
from conversation.builder import Caller, Events
from conversation.paced_output import PacedOutput
from engines.select import Chosen
from library.leases import Lease
from services.http import bind, make_server
from services.server import Server
from settings import Settings
from tests.scripted_engines import ScriptedChat, ScriptedTranscriber, ScriptedVoice

PATIENCE = 20.0


class ScriptedTalk:
    """A conversation that speaks when told to and notes what it is given."""

    def __init__(self, caller: Caller, lease: Lease, events: Events) -> None:
        self.caller, self.lease, self.events = caller, lease, events
        self.session: rtc.EventEmitter[str] = rtc.EventEmitter()
        self.heard = bytearray()
        self.done: list[tuple[str, str]] = []
        self.output: PacedOutput | None = None
        self.closed = False
        self.failure: Exception | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self, audio_input: io.AudioInput | None, audio_output: PacedOutput | None) -> None:
        if self.failure is not None:
            raise self.failure
        assert audio_input is not None
        assert audio_output is not None
        self.output = audio_output
        self._listening = asyncio.create_task(self._listen(audio_input))

    async def _listen(self, audio_input: io.AudioInput) -> None:
        async for frame in audio_input:
            self.heard += frame.data.cast("B")

    async def speak(self, seconds: float) -> bytes:
        """Say a tone; gives its samples as the client should hear them."""
        assert self.output is not None
        samples = (10_000 * np.sin(np.arange(round(seconds * 24_000)) / 20)).astype(np.int16)
        await self.output.capture_frame(rtc.AudioFrame(samples.tobytes(), 24_000, 1, len(samples)))
        self.output.flush()
        return (samples.astype("<f4") / np.float32(32768)).tobytes()

    async def type(self, text: str) -> None:
        if text == "crash":
            raise ZeroDivisionError
        self.done.append(("type", text))

    async def use_personality(self, personality_id: str) -> object:
        if personality_id == "nobody":
            raise LookupError("there is no personality 'nobody'; GET /api/personalities lists them")
        self.done.append(("personality", personality_id))
        return None

    async def use_voice(self, voice_id: str) -> object:
        self.done.append(("voice", voice_id))
        return None

    async def aclose(self) -> None:
        self.closed = True
        if self._listening is not None:
            self._listening.cancel()


class House:
    """The server and its conversations, newest last."""

    def __init__(self, app: FastAPI, server: Server, port: int, talks: list[ScriptedTalk]) -> None:
        self.app, self.server, self.port, self.talks = app, server, port, talks
        self.failure: Exception | None = None

    @property
    def equipment(self) -> Equipment:
        equipment: Equipment = self.app.state.equipment
        return equipment

    def address(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    async def call(self, session: str = "s1", query: str = "", **hello: str) -> ClientConnection:
        """A client that has said hello and whose conversation has begun."""
        before = len(self.talks)
        client = await connect(self.address(f"/ws/{session}{query}"), max_size=None)
        await client.send(json.dumps({"agentId": "", "userId": "u1", "agentName": ""} | hello))
        await until(lambda: len(self.talks) > before and self.talks[-1].output is not None)
        return client


async def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for something that happens elsewhere."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - what is waited for knows nothing of events
            await asyncio.sleep(0.01)


async def message(client: ClientConnection) -> dict[str, Any]:
    """The client's next text message."""
    received = await asyncio.wait_for(client.recv(), PATIENCE)
    assert isinstance(received, str), "expected a text message, got sound"
    taken: dict[str, Any] = json.loads(received)
    return taken


async def ending(client: ClientConnection) -> tuple[list[dict[str, Any]], int | None, str | None]:
    """Text messages until the server closes the socket, the close code and its reason."""
    left: list[dict[str, Any]] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            received = await asyncio.wait_for(client.recv(), PATIENCE)
            if isinstance(received, str):
                left.append(json.loads(received))
    return left, client.close_code, client.close_reason


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[tuple[Server, int]]:
    """The app on a free port; gives the server and its port."""
    sock = bind("127.0.0.1", 0)
    server = make_server(app)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    await until(lambda: server.started or task.done())
    try:
        yield server, sock.getsockname()[1]
    finally:
        server.should_exit = True
        await task


Open = Callable[..., Awaitable[House]]


@pytest.fixture
async def open_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Opens a server; keyword arguments are settings."""
    async with AsyncExitStack() as stack:

        async def opened(**variables: str) -> House:
            for name, value in {"DATA_DIR": str(tmp_path), **variables}.items():
                monkeypatch.setenv(name, value)
            monkeypatch.chdir(tmp_path)
            talks: list[ScriptedTalk] = []
            house: House | None = None

            def begin(_: Equipment, caller: Caller, lease: Lease, events: Events) -> ScriptedTalk:
                talk = ScriptedTalk(caller, lease, events)
                talk.failure = house.failure if house is not None else None
                talks.append(talk)
                return talk

            app = create(Settings(), scripted_engines(), begin)
            house = House(app, *await stack.enter_async_context(serving(app)), talks)
            return house

        yield opened


@pytest.fixture
async def house(open_house: Open) -> House:
    return await open_house()


def scripted_engines() -> Chosen:
    return Chosen(stt=ScriptedTranscriber([]), chat=ScriptedChat(lambda _: "well done"), tts=ScriptedVoice(), why=())
