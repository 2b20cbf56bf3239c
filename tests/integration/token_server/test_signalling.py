"""Signalling passed on at the page's own address: byte for byte, with livekit-server's own answers, and to its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import pytest
from livekit import rtc
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.token_server.stage import Served, serving, until, worker_alive
from tests.livekit_server import LiveKitServer, free_port, running_livekit_server
from token_server.signalling import LARGEST


@dataclass
class Scripted:
    """A livekit-server of the test's own: notes what arrives, and says what the test wants."""

    port: int
    refuses: tuple[int, str] | None = None
    paths: list[str] = field(default_factory=list)
    arrived: list[str | bytes] = field(default_factory=list)
    sockets: list[ServerConnection] = field(default_factory=list)

    async def serve(self, ws: ServerConnection) -> None:
        self.sockets.append(ws)
        with contextlib.suppress(ConnectionClosed):
            async for message in ws:
                self.arrived.append(message)
                await ws.send(message)

    def handshake(self, ws: ServerConnection, request: Request) -> Response | None:
        if not request.path.startswith("/rtc"):
            return ws.respond(HTTPStatus.NOT_FOUND, "not here")  # the dispatch watch asks for rooms
        self.paths.append(request.path)
        return ws.respond(HTTPStatus(self.refuses[0]), self.refuses[1]) if self.refuses else None


@pytest.fixture
async def scripted(environment: pytest.MonkeyPatch) -> AsyncIterator[Scripted]:
    script = Scripted(free_port())
    environment.setenv("LIVEKIT_PORT", str(script.port))
    async with serve(script.serve, "127.0.0.1", script.port, process_request=script.handshake, max_size=None):
        yield script


@pytest.fixture
async def passing(scripted: Scripted, page: Path) -> AsyncIterator[Served]:
    """A token server before the scripted livekit-server."""
    async with serving(page) as served:
        yield served


def signalling(served: Served, path: str = "/rtc") -> connect:
    return connect(f"ws://127.0.0.1:{served.port}{path}", proxy=None, compression=None, max_size=None)


async def granted(served: Served) -> str:
    """A token for one room."""
    async with worker_alive(served):
        return (await served.token(room_name="one"))[1]


async def ended(ws: ClientConnection) -> tuple[int | None, str | None]:
    await asyncio.wait_for(ws.wait_closed(), 30)
    return ws.close_code, ws.close_reason


async def test_a_client_joins_a_room_at_the_pages_address(served: Served) -> None:
    token = await granted(served)
    first = await served.enter(f"ws://127.0.0.1:{served.port}", token)
    second = await served.enter(f"ws://127.0.0.1:{served.port}", await granted(served))
    await until(lambda: len(first.remote_participants) == 1 and len(second.remote_participants) == 1)
    assert first.connection_state == rtc.ConnectionState.CONN_CONNECTED


async def test_a_token_is_judged_by_livekit_server(served: Served) -> None:
    token = await granted(served)
    good = await served.http.get("/rtc/validate", params={"access_token": token})
    assert (good.status_code, good.text) == (200, "success")
    bad = await served.http.get("/rtc/v1/validate", params={"access_token": "none"})
    assert bad.status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        await signalling(served, "/rtc?access_token=none")
    assert refused.value.response.status_code == 401
    assert b"invalid authorization token" in bytes(refused.value.response.body)


@pytest.mark.parametrize("path", ["/rtc", "/rtc/v1"])
async def test_messages_and_addresses_pass_as_they_are(scripted: Scripted, passing: Served, path: str) -> None:
    asked = f"{path}?access_token=a.b-c_d&join_request=x%2By%3D%3D&sdk=js&empty=&attributes=%7B%22a%22%3A1%7D"
    messages: list[str | bytes] = [bytes(range(256)) * 40, "", '{"ping": "über"}', b"", b"\0", bytes(LARGEST)]
    async with signalling(passing, asked) as ws:
        for message in messages:
            await ws.send(message)
            assert await ws.recv() == message
    assert scripted.paths == [asked]
    assert scripted.arrived == messages
    await passing.http.get(f"{path}/validate?{asked.partition('?')[2]}")
    assert scripted.paths[1] == asked.replace("?", "/validate?")


async def test_a_token_as_long_as_tokens_get_passes(scripted: Scripted, passing: Served) -> None:
    asked = f"/rtc?access_token={'x' * 120_000}"
    async with signalling(passing, asked):
        assert scripted.paths == [asked]


async def test_no_key_of_ours_is_asked_and_any_origin_may_come(
    environment: pytest.MonkeyPatch, scripted: Scripted, page: Path
) -> None:
    environment.setenv("API_KEYS", "open-sesame")
    async with serving(page) as served:
        address = f"ws://127.0.0.1:{served.port}/rtc"
        async with connect(address, proxy=None, origin="https://elsewhere.example") as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
        assert (await served.http.get("/rtc/validate")).status_code != 401
        assert (await served.http.get("/api/voices")).status_code == 401


async def test_the_end_is_passed_on_with_its_code_whichever_side_ends(scripted: Scripted, passing: Served) -> None:
    async with signalling(passing) as ws:
        await scripted.sockets[0].close(4001, "removed")
        assert await ended(ws) == (4001, "removed")
    async with signalling(passing) as ws:
        await ws.close(1000, "bye")
        await asyncio.wait_for(scripted.sockets[1].wait_closed(), 30)
        assert (scripted.sockets[1].close_code, scripted.sockets[1].close_reason) == (1000, "bye")
    async with signalling(passing) as ws:
        ws.transport.abort()  # the client's line is gone
        await asyncio.wait_for(scripted.sockets[2].wait_closed(), 30)


async def test_a_livekit_server_that_dies_ends_its_clients_at_once(scripted: Scripted, passing: Served) -> None:
    async with signalling(passing) as ws:
        scripted.sockets[0].transport.abort()
        assert await ended(ws) == (1012, "livekit-server went away")


async def test_too_big_a_message_is_refused(scripted: Scripted, passing: Served) -> None:
    async with signalling(passing) as ws:
        await ws.send(bytes(LARGEST + 1))
        assert (await ended(ws))[0] == 1009
    await asyncio.wait_for(scripted.sockets[0].wait_closed(), 30)
    assert scripted.arrived == []


async def test_a_refusal_is_livekit_servers_own(scripted: Scripted, passing: Served) -> None:
    scripted.refuses = (404, "requested room does not exist")
    with pytest.raises(InvalidStatus) as refused:
        await signalling(passing)
    assert refused.value.response.status_code == 404
    assert refused.value.response.body == b"requested room does not exist"


async def test_without_livekit_server_the_answer_is_503_and_it_is_found_again(
    environment: pytest.MonkeyPatch, page: Path, livekit: LiveKitServer
) -> None:
    port = free_port()
    environment.setenv("LIVEKIT_PORT", str(port))
    async with serving(page) as served:
        with pytest.raises(InvalidStatus) as refused:
            await signalling(served)
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"]
        assert (await served.http.get("/rtc/validate")).status_code == 503
        with running_livekit_server(port=port, key=livekit.key, secret=livekit.secret):
            token = await granted(served)
            room = await served.enter(f"ws://127.0.0.1:{served.port}", token)
            assert room.isconnected()


async def test_a_livekit_server_of_ones_own_is_reached_directly(
    environment: pytest.MonkeyPatch, page: Path, livekit: LiveKitServer
) -> None:
    environment.setenv("LIVEKIT_URL", livekit.url)
    async with serving(page) as served:
        assert (await served.http.get("/rtc/validate")).status_code == 404
