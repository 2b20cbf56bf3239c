"""What a part does with callers who send too much, too slowly, too often, or read nothing: real sockets, real bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, UploadFile, WebSocket
from pydantic import BaseModel
from websockets.asyncio.client import connect

from services import body_limit, http_protocol, websocket_protocol
from services.http import accept, create_app, send_json
from services.live import LiveResponse
from services.sockets import count_call
from settings import Settings
from tests.integration.services.sockets import answer, close_code
from tests.served import served

Make = Callable[..., Settings]

SOMEWHERE = {"X-Forwarded-For": "198.51.100.7"}
"""A caller from elsewhere, as a proxy on this machine speaks for them."""


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close refused connections soon."""
    monkeypatch.setattr(http_protocol, "LINGER", 0.3)
    monkeypatch.setattr(websocket_protocol, "LINGER", 0.3)


class Thing(BaseModel):
    text: str


def app_of(settings: Settings) -> FastAPI:
    async def health() -> tuple[bool, dict[str, Any]]:
        return True, {}

    app = create_app(
        "Test", settings, health=health, public_paths=("/open",), message_limit=100_000, longer={"/slow/but/fine": 60}
    )

    @app.post("/things")
    async def things(thing: Thing) -> int:
        return len(thing.text)

    @app.post("/files")
    async def files(file: UploadFile) -> int:
        return len(await file.read())

    @app.get("/open")
    async def opened() -> str:
        return "page"

    @app.get("/never")
    async def never() -> None:
        await asyncio.Event().wait()

    @app.get("/slow/{how}/fine")
    async def slow(how: str) -> str:
        await asyncio.sleep(1.0)
        return how

    async def endless(pieces: int) -> AsyncGenerator[bytes, None]:
        for _ in range(pieces):
            yield bytes(65536)
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    @app.get("/endless")
    async def endless_answer(pieces: int = 1_000_000) -> LiveResponse:
        return LiveResponse(endless(pieces), "application/octet-stream")

    @app.websocket("/live")
    async def live(ws: WebSocket) -> None:
        if await accept(ws, settings):
            with contextlib.suppress(Exception):
                while True:
                    message = await ws.receive()
                    if message["type"] != "websocket.receive" or not await count_call(ws):
                        return
                    size = len(message.get("text") or message.get("bytes") or "")
                    await send_json(ws, {"type": "echo", "size": size})

    return app


@asynccontextmanager
async def serving(make_settings: Make, **variables: str) -> AsyncIterator[httpx.AsyncClient]:
    async with served(app_of(make_settings(**variables))) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
async def client(make_settings: Make) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(make_settings) as client:
        yield client


@asynccontextmanager
async def line(client: httpx.AsyncClient) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def said(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and error of one answer."""
    async with asyncio.timeout(30):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        error = json.loads(await reader.readexactly(length))["error"]
    return int(head.split(" ")[1]), error


def socket_url(client: httpx.AsyncClient, path: str = "/live") -> str:
    return f"ws://127.0.0.1:{client.base_url.port}{path}"


# --- heads and bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        ("\r\n".join(f"X-{number}: y" for number in range(150)), 431, "too_big"),
        ("X-Long: " + "y" * 9000, 431, "too_big"),
        ("\r\n".join(f"X-{number}: {'y' * 7000}" for number in range(8)), 431, "too_big"),
        ("Content-Length: many", 400, "bad_request"),
        ("X-One: 1\r\nno colon here", 400, "bad_request"),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400, "bad_request"),
    ],
)
async def test_a_head_that_is_too_big_or_wrong_is_refused_in_the_contracts_words(
    client: httpx.AsyncClient, head: str, status: int, code: str
) -> None:
    async with line(client) as (reader, writer):
        writer.write(f"GET /health HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        refused, error = await said(reader)
        assert (refused, error["code"]) == (status, code)
        assert await reader.read() == b"", "the connection is over"
    assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (f"GET /{'y' * 9000} HTTP/1.1", 414),
        ("GET /\xff HTTP/1.1", 400),
        ("NONSENSE", 400),
        ("GET / HTTP/9.9", 400),
        ("\x16\x03\x01\x02\x00", 400),
    ],
)
async def test_a_first_line_that_is_none_is_refused(client: httpx.AsyncClient, first: str, status: int) -> None:
    async with line(client) as (reader, writer):
        writer.write(first.encode("latin-1") + b"\r\nHost: x\r\n\r\n")
        assert (await said(reader))[0] == status


async def test_an_endless_header_is_cut_off_before_it_is_whole(client: httpx.AsyncClient) -> None:
    async with line(client) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nX-Endless: " + b"y" * 500_000)
        refused, error = await said(reader)
    assert (refused, error["code"]) == (431, "too_big")


async def test_headers_that_trickle_are_ended(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN", 0.5)
    async with line(client) as (reader, writer):
        answered = asyncio.create_task(said(reader))
        for letter in b"GET /health HTTP/1.1\r\nX-Slow: " + b"y" * 1000:
            writer.write(bytes([letter]))
            await asyncio.sleep(0.02)
            if answered.done():
                break
        refused, error = await answered
    assert (refused, error["code"]) == (408, "too_slow")


async def test_a_connection_on_which_nothing_is_asked_is_closed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN", 0.3)
    async with line(client) as (reader, _):
        async with asyncio.timeout(30):
            assert await reader.read() == b""


async def test_empty_lines_do_not_keep_a_connection_open(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_WITHIN", 0.3)
    async with line(client) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}")
        ended = asyncio.create_task(reader.read())
        async with asyncio.timeout(30):
            while not ended.done():
                with contextlib.suppress(OSError):
                    writer.write(b"\r\n")
                    await writer.drain()
                await asyncio.sleep(0.05)


async def test_a_body_that_trickles_is_ended(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "PATIENCE", 0.5)
    file = '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    for path, kind, begin in (("/things", "application/json", ""), ("/files", "multipart/form-data; boundary=b", file)):
        async with line(client) as (reader, writer):
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: 9000\r\n\r\n{begin}"
            writer.write(head.encode())
            answered = asyncio.create_task(said(reader))
            while not answered.done():
                writer.write(b"-")
                await asyncio.sleep(0.02)
            refused, error = answered.result()
            assert (refused, error["code"]) == (408, "too_slow")
            async with asyncio.timeout(30):
                assert await reader.read() == b"", "what the caller goes on to send doesn't keep the connection open"


async def test_a_slow_but_steady_upload_gets_through(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_limit, "PATIENCE", 0.5)

    async def steadily() -> AsyncIterator[bytes]:
        yield b'{"text": "'
        for _ in range(12):
            yield b"x" * 4096
            await asyncio.sleep(0.1)
        yield b'"}'

    answered = await client.post("/things", content=steadily(), headers={"Content-Type": "application/json"})
    assert answered.json() == 12 * 4096


async def test_a_form_has_few_parts(client: httpx.AsyncClient) -> None:
    many = [("file", ("a", b"x")) for _ in range(10)]
    answered = await client.post("/files", files=many)
    assert (answered.status_code, answered.json()["error"]["code"]) == (400, "bad_request")
    answered = await client.post("/files", files={"file": b"x"}, data={f"field{number}": "x" for number in range(50)})
    assert (answered.status_code, answered.json()["error"]["code"]) == (400, "bad_request")
    answered = await client.post("/files", files={"file": b"x"}, data={"field": "x" * 100_000})
    assert answered.status_code == 400
    assert (await client.post("/files", files={"file": b"x"})).json() == 1


# --- answers ------------------------------------------------------------------------------------------------


async def test_an_answer_that_does_not_come_is_a_504(make_settings: Make) -> None:
    async with serving(make_settings, ANSWER_WITHIN="0.3") as client:
        answered = await client.get("/never")
        assert (answered.status_code, answered.json()["error"]["code"]) == (504, "timeout")
        assert (await client.get("/slow/but/fine")).json() == "but", "this path has longer"
        assert (await client.get("/slow/and/fine")).status_code == 504


async def test_an_answer_that_stops_in_the_middle_is_broken_off(make_settings: Make) -> None:
    async with serving(make_settings, ANSWER_WITHIN="0.3") as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/endless?pieces=3")


async def test_an_answer_that_nobody_reads_is_given_up(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "READ_WITHIN", 0.5)
    async with line(client) as (_, writer):
        writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")

        async def over() -> bool:
            return 'route="/endless",status="200"} 1.0' in (await client.get("/metrics")).text

        async with asyncio.timeout(30):
            while not await over():  # noqa: ASYNC110 - what is waited for is another part's page
                await asyncio.sleep(0.05)


# --- how many, how often ------------------------------------------------------------------------------------


async def test_a_part_holds_so_many_connections_and_says_so_beyond(make_settings: Make) -> None:
    async with serving(make_settings, MAX_CONNECTIONS="5") as client:
        async with contextlib.AsyncExitStack() as stack:
            lines = [await stack.enter_async_context(line(client)) for _ in range(6)]
            reader = lines[-1][0]
            refused, error = await said(reader)
            assert (refused, error["code"]) == (503, "full")
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get("/health")).status_code == 200:
                        break
                await asyncio.sleep(0.05)


async def test_a_caller_who_calls_too_often_is_told_when_to_go_on(make_settings: Make) -> None:
    async with serving(make_settings, CALLS_PER_MINUTE="3") as client:
        answers = [await client.post("/things", json={"text": "hi"}, headers=SOMEWHERE) for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 200, 429]
        assert answers[-1].json()["error"]["code"] == "too_fast"
        assert int(answers[-1].headers["Retry-After"]) in range(1, 21)
        elsewhere = await client.post("/things", json={"text": "hi"}, headers={"X-Forwarded-For": "203.0.113.9"})
        assert elsewhere.status_code == 200
        for path in ("/health", "/open"):
            assert (await client.get(path, headers=SOMEWHERE)).status_code == 200
        for _ in range(10):
            assert (await client.post("/things", json={"text": "hi"})).status_code == 200, "our own parts go on"


async def test_who_guesses_keys_is_stopped_but_nobody_else(make_settings: Make) -> None:
    async with serving(make_settings, API_KEYS="right", WRONG_KEYS_PER_MINUTE="3") as client:

        async def ask(key: str, **headers: str) -> int:
            given = {**SOMEWHERE, "Authorization": f"Bearer {key}", **headers}
            return (await client.get("/slow/but/fine" if key == "right" else "/metrics", headers=given)).status_code

        assert [await ask(f"wrong{number}") for number in range(4)] == [401, 401, 401, 429]
        assert await ask("right") == 429, "else a guesser would learn which key is right"
        assert await ask("right", **{"X-Forwarded-For": "203.0.113.9"}) == 200
        assert (await client.get("/metrics", headers=SOMEWHERE)).status_code == 401, "no key is no guess"
        async with connect(socket_url(client, "/live?api_key=right"), additional_headers=SOMEWHERE) as ws:
            assert (await answer(ws))["code"] == "too_fast"
            assert await close_code(ws) == 1013


async def test_sockets_and_what_they_ask_for_are_counted_too(make_settings: Make) -> None:
    async with serving(make_settings, CALLS_PER_MINUTE="3") as client:
        async with connect(socket_url(client), additional_headers=SOMEWHERE) as ws:
            for _ in range(2):
                await ws.send("hello")
                assert (await answer(ws))["type"] == "echo"
            await ws.send("hello")
            assert (await answer(ws))["code"] == "too_fast"
            assert await close_code(ws) == 1013
        async with connect(socket_url(client), additional_headers=SOMEWHERE) as ws:
            assert (await answer(ws))["code"] == "too_fast"
            assert await close_code(ws) == 1013
        async with connect(socket_url(client)) as ws:
            for _ in range(10):
                await ws.send("hello")
                assert (await answer(ws))["type"] == "echo"


async def test_one_caller_has_so_many_sockets(make_settings: Make) -> None:
    async with serving(make_settings, SOCKETS_PER_CALLER="2", API_KEYS="one,two") as client:

        def open_one(key: str) -> connect:
            return connect(socket_url(client, f"/live?api_key={key}"), additional_headers=SOMEWHERE)

        async with open_one("one") as first, open_one("one"):
            async with open_one("one") as third:
                assert (await answer(third))["code"] == "full"
                assert await close_code(third) == 1013
            async with open_one("two") as other:
                await other.send("hello")
                assert (await answer(other))["type"] == "echo"
            await first.close()
            async with asyncio.timeout(30):
                while True:
                    async with open_one("one") as again:
                        await again.send("hello")
                        if (await answer(again))["type"] == "echo":
                            break


# --- what breaks WebSocket's own rules ----------------------------------------------------------------------


async def raw_socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Shake hands by hand, so that the test may send what no library would."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    head = f"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n"
    writer.write(head.encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")


def frame(first: int, data: bytes) -> bytes:
    """A masked frame (with a mask of zeros)."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([first]) + length + bytes(4) + data


async def frames_until_close(reader: asyncio.StreamReader) -> tuple[dict[str, str], int]:
    """The error the server sends, and its close code."""
    error: dict[str, str] = {}
    async with asyncio.timeout(30):
        while True:
            kind, size = await reader.readexactly(2)
            data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big") if size == 126 else size)
            if kind == 0x88:
                return error, int.from_bytes(data[:2], "big")
            if kind == 0x81:
                error = json.loads(data)


async def test_a_frame_over_the_limit_is_told_and_closed(client: httpx.AsyncClient) -> None:
    for data in (bytes(10_000_000), "x" * 10_000_000):
        # Not closed by us: the server has ended the line.
        ws = await connect(socket_url(client))
        with contextlib.suppress(Exception):
            await ws.send(data)
        told = await answer(ws)
        assert (told["type"], told["code"]) == ("error", "too_big")
        assert "100000 bytes" in told["message"]
        assert await close_code(ws) == 1009
    async with connect(socket_url(client)) as ws:
        await ws.send(bytes(100_000))
        assert await answer(ws) == {"type": "echo", "size": 100_000}


@pytest.mark.parametrize(
    ("sent", "code", "name"),
    [
        (frame(0x81, b"\xff\xfe\xfd"), 1003, "bad_request"),
        (frame(0x83, b"reserved opcode"), 1002, "bad_request"),
        (frame(0xF1, b"reserved bits"), 1002, "bad_request"),
        (b"\x81\x05hello", 1002, "bad_request"),
        (frame(0x80, b"goes on with nothing"), 1002, "bad_request"),
        (frame(0x01, b"a") + frame(0x00, b"") * 5000, 1009, "too_big"),
        (frame(0x01, b"\xff") + frame(0x00, b"\xff") + frame(0x80, b"\xff"), 1003, "bad_request"),
        (frame(0x89, b"p" * 120) + frame(0x88, b"\x03"), 1002, "bad_request"),
    ],
)
async def test_frames_that_break_the_rules_are_told_and_closed(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, sent: bytes, code: int, name: str
) -> None:
    async with line(client) as (reader, writer):
        await raw_socket(reader, writer)
        writer.write(sent)
        error, closed = await frames_until_close(reader)
        assert (error["type"], error["code"], closed) == ("error", name, code)
    assert not [record for record in caplog.records if record.exc_info]
    async with connect(socket_url(client)) as ws:
        await ws.send("hello")
        assert (await answer(ws))["type"] == "echo"


async def test_pings_whose_answers_nobody_reads_end(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_protocol, "UNREAD", 10_000)
    async with line(client) as (reader, writer):
        await raw_socket(reader, writer)
        with pytest.raises(OSError):
            async with asyncio.timeout(30):
                while True:
                    writer.write(frame(0x89, b"p" * 120) * 100)
                    await writer.drain()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Sec-WebSocket-Version: 13", 400),
        ("Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 7", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Bad\x01: 1", 400),
    ],
)
async def test_a_handshake_that_is_none_is_refused_in_the_contracts_words(
    client: httpx.AsyncClient, headers: str, status: int
) -> None:
    async with line(client) as (reader, writer):
        head = f"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{headers}\r\n\r\n"
        writer.write(head.encode())
        refused, error = await said(reader)
        assert (refused, error["code"]) == (status, "bad_request")
