"""Every route of every part keeps the contract's common rules; found by walking the apps, so that none escapes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from agent import health as agent_health
from agent.places import Places
from compat_ws.service import create as compat
from engines.select import Chosen
from services import chat, stt, tts
from services.http import bind
from settings import GROUPS, Settings
from tests.scripted_engines import ScriptedChat, ScriptedTranscriber, ScriptedVoice
from tests.served import served
from token_server.app import build

PARTS = ("stt", "chat", "tts", "compat", "page", "agent")

OPEN = {
    "/health": PARTS,
    "/": ("agent", "page"),
    # livekit-server lets nobody in without a room token.
    "/rtc": ("page",),
    "/rtc/v1": ("page",),
    "/rtc/validate": ("page",),
    "/rtc/v1/validate": ("page",),
}
"""Routes that ask for no key, and in which parts."""

FRIEND, STRANGER = "http://localhost:5173", "https://stranger.example"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass
class Running:
    """A part as it is served, with API_KEYS=key, ADMIN_KEYS=admin."""

    name: str
    app: FastAPI
    url: str
    client: httpx.AsyncClient

    def http(self) -> Iterator[tuple[str, set[str], bool]]:
        """Path, methods and openness of each HTTP route."""
        for route in walked(self.app.routes):
            if isinstance(route, Route):
                yield filled(route.path), set(route.methods or ()), self.is_open(route.path)

    def sockets(self) -> Iterator[tuple[str, bool]]:
        """Path and openness of each WebSocket route."""
        for route in walked(self.app.routes):
            if isinstance(route, WebSocketRoute):
                yield filled(route.path), self.is_open(route.path)

    def is_open(self, path: str) -> bool:
        return self.name in OPEN.get(path, ())

    def takes(self, method: str, path: str) -> bool:
        """Whether some route takes a method on a path."""
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
        routes = [route for route in walked(self.app.routes) if isinstance(route, Route)]
        return any(route.matches(scope)[0] is Match.FULL for route in routes)

    def socket(self, path: str) -> str:
        return self.url.replace("http", "ws", 1) + path


def walked(routes: list[BaseRoute]) -> Iterator[Route | WebSocketRoute]:
    """Every route, those of included routers too; the page's files are mounted, and tested by themselves."""
    for route in routes:
        if isinstance(route, Route | WebSocketRoute):
            yield route
        elif inner := getattr(route, "original_router", None):
            yield from walked(inner.routes)
        else:
            assert isinstance(route, Mount) and route.name == "page", f"a kind of route nobody checks: {route!r}"


def filled(path: str) -> str:
    """A path of a route with something for its parameters."""
    pieces = ["cartesia" if piece == "{name}" else "x" if piece.startswith("{") else piece for piece in path.split("/")]
    return "/".join(pieces)


@asynccontextmanager
async def running(name: str, settings: Settings, page: Path) -> AsyncIterator[Running]:
    """One part, in this loop, with scripted engines."""
    heard, said, spoken = ScriptedTranscriber([]), ScriptedChat(lambda _: "yes"), ScriptedVoice()
    async with AsyncExitStack() as stack:
        if name == "agent":
            app, url = await agent_page(settings, stack)
        else:
            match name:
                case "stt":
                    app = stt.create(settings, heard)
                case "chat":
                    app = chat.create(settings, said)
                case "tts":
                    app = tts.create(settings, spoken)
                case "compat":
                    app = compat(settings, Chosen(stt=heard, chat=said, tts=spoken, why=()))
                case _:
                    app = build(settings, page=page)
            url = await stack.enter_async_context(served(app))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=30))
        yield Running(name, app, url, client)


async def agent_page(settings: Settings, stack: AsyncExitStack) -> tuple[FastAPI, str]:
    """The worker's page, and the app it is made of."""
    made: list[FastAPI] = []
    with pytest.MonkeyPatch.context() as patch:
        make = agent_health.create_app
        patch.setattr(agent_health, "create_app", lambda *a, **k: made.append(make(*a, **k)) or made[0])
        sock = bind("127.0.0.1", 0)
        announced = cast(Any, SimpleNamespace(trouble=""))
        page = agent_health.health_page(settings, sock, Places(1, lambda: []), lambda: True, announced)
        await stack.enter_async_context(page)
    address = sock.getsockname()
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection(*address)
                writer.close()
                break
            await asyncio.sleep(0.01)
    return made[0], f"http://127.0.0.1:{address[1]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A built page, and what lies beside it."""
    built = tmp_path / "dist"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text("<!doctype html><title>page</title>")
    (built / "assets" / "app-1.js").write_text("let page")
    for place in (tmp_path, tmp_path / "dist-not", built.parent / "data"):
        place.mkdir(exist_ok=True)
        (place / "secret.txt").write_text("a secret")
    (built / "out").symlink_to(tmp_path)
    (built / "secret").symlink_to(tmp_path / "secret.txt")
    (built / "assets" / "out.js").symlink_to(tmp_path / "secret.txt")
    return built


@pytest.fixture(params=PARTS)
async def part(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> AsyncIterator[Running]:
    monkeypatch.chdir(tmp_path)
    for group in GROUPS:
        for variable in group.model_fields:
            monkeypatch.delenv(variable.upper(), raising=False)
    for variable, value in {
        "API_KEYS": "key,another",
        "ADMIN_KEYS": "admin",
        "DATA_DIR": str(tmp_path / "data"),
        "LIVEKIT_API_KEY": "devkey",
        "LIVEKIT_API_SECRET": "s" * 40,
        "LIVEKIT_PORT": "1",
    }.items():
        monkeypatch.setenv(variable, value)
    async with running(request.param, Settings(), folder) as one:
        yield one


def error_of(answer: httpx.Response) -> str:
    """The code of an answer that is the contract's error, and nothing else."""
    body = answer.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["message"]
    assert answer.headers["content-type"] == "application/json"
    return str(body["error"]["code"])


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_every_path_asks_for_a_key(part: Running) -> None:
    checked = 0
    for path, methods, is_open in part.http():
        for method in methods - {"HEAD"}:
            for given, url in (({}, path), (bearer("wrong"), path), ({}, f"{path}?api_key=key")):
                answer = await part.client.request(method, url, headers=given)
                if is_open:
                    assert answer.status_code != 401, (method, path)
                    continue
                assert (answer.status_code, error_of(answer)) == (401, "unauthorized"), (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
            if not is_open:
                for key in ("key", "another", "admin"):
                    answer = await part.client.request(method, path, headers=bearer(key))
                    assert answer.status_code != 401, (method, path)
                checked += 1
    assert checked >= 2, "the part has routes: at least /metrics and /openapi.json"


async def test_only_admin_keys_change_personalities_and_voices(part: Running) -> None:
    if part.name != "page":
        return
    paths = [path for path, _, _ in part.http() if path.startswith(("/api/personalities", "/api/voices"))]
    assert len(paths) >= 4
    for path, methods, _ in part.http():
        if path in paths:
            for method in methods - {"GET", "HEAD"}:
                answer = await part.client.request(method, path, headers=bearer("key"), json={})
                assert (answer.status_code, error_of(answer)) == (403, "forbidden"), (method, path)


async def test_what_is_not_there_and_what_does_not_fit_is_told_in_one_shape(part: Running) -> None:
    given = bearer("key")
    answer = await part.client.get("/nothing/here", headers=given)
    assert (answer.status_code, error_of(answer)) == (404, "not_found")
    by_path: dict[str, set[str]] = {}
    for path, _, _ in part.http():
        # More than one route may fit a path: /chat/groq is a conversation's, too.
        by_path[path] = {method for method in METHODS if part.takes(method, path)}
    for path, methods in by_path.items():
        if path == "/" and part.name == "page":
            continue
        for method in set(METHODS) - methods:
            answer = await part.client.request(method, path, headers=given)
            assert (answer.status_code, error_of(answer)) == (405, "method_not_allowed"), (method, path)
        if "POST" not in methods or path.endswith("/prepare"):
            continue
        for kind, body in (
            ("application/json", b"{"),
            ("application/json", b'"\xff"'),
            ("application/json", b"[" * 50_000),
            ("application/json", b'[{"a": 1}]'),
            ("text/plain", b"hello"),
            ("multipart/form-data", b"hello"),
            ("multipart/form-data; boundary=x", b"--x\r\n"),
        ):
            answer = await part.client.post(path, content=body, headers={**given, "Content-Type": kind})
            assert answer.status_code in (400, 415), (path, kind, body[:20], answer.text)
            error_of(answer)
        head = "Authorization: Bearer key\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n"
        status, _, body = await by_hand(part, f"POST {path}", head)
        assert (status, json.loads(body)["error"]["code"]) == (413, "too_big"), path


async def by_hand(part: Running, what: str, headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to a request that no client library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", part.client.base_url.port)
    writer.write(f"{what} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n".encode())
    async with asyncio.timeout(30):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    first, *lines = head.decode().split("\r\n")
    return int(first.split(" ")[1]), dict(line.lower().split(": ", 1) for line in lines), body


async def test_pages_of_listed_origins_may_call_and_read_every_answer(part: Running) -> None:
    for path, methods, _ in part.http():
        method = min(methods - {"HEAD"})
        for origin, allowed in ((FRIEND, FRIEND), (STRANGER, None)):
            asking = {"Origin": origin, "Access-Control-Request-Method": method}
            preflight = await part.client.options(path, headers=asking)
            assert preflight.headers.get("access-control-allow-origin") == allowed, (origin, path)
            if not allowed:
                assert (preflight.status_code, error_of(preflight)) == (403, "forbidden")
            for headers in ({}, bearer("wrong"), bearer("key")):
                answer = await part.client.request(method, path, headers={**headers, "Origin": origin})
                assert answer.headers.get("access-control-allow-origin") == allowed, (origin, path)
                assert "origin" in answer.headers["vary"].lower()


async def first_and_close(url: str, send: str | None = None, **options: Any) -> tuple[dict[str, Any], int | None]:
    """What a WebSocket is told first, and the code it is closed with."""
    async with connect(url, proxy=None, close_timeout=5, **options) as ws:
        if send is not None:
            with contextlib.suppress(ConnectionClosed):
                await ws.send(send)
        async with asyncio.timeout(30):
            first = json.loads(await ws.recv())
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(0.5 if first["type"] != "error" else 5):
                    while True:
                        await ws.recv()
        return first, ws.close_code


async def test_every_socket_asks_for_a_key_and_looks_at_the_origin(part: Running) -> None:
    for path, is_open in part.sockets():
        if is_open:
            continue
        for url, headers in ((path, {}), (path, bearer("wrong")), (f"{path}?api_key=wrong", {})):
            error, code = await first_and_close(part.socket(url), additional_headers=headers)
            assert (error["type"], error["code"], code) == ("error", "unauthorized", 1008), path
        error, code = await first_and_close(part.socket(f"{path}?api_key=key"), origin=STRANGER)
        assert (error["type"], error["code"], code) == ("error", "forbidden", 1008), path
        for url, headers in ((path, bearer("key")), (f"{path}?api_key=another", {}), (path, bearer("admin"))):
            told, _ = await first_and_close(part.socket(url), "[]", additional_headers=headers, origin=FRIEND)
            assert told.get("code") not in ("unauthorized", "forbidden"), path
    error, code = await first_and_close(part.socket("/no/socket/here?api_key=key"))
    assert (error["code"], code) == ("not_found", 4404)


# --- the page ---------------------------------------------------------------------------------------------------

SAFE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.mark.parametrize("part", ["page"], indirect=True)
async def test_every_answer_of_the_page_has_its_headers(part: Running) -> None:
    seen = set()
    key = "Authorization: Bearer key\r\n"
    for what, given in (
        ("GET /", ""),
        ("GET /assets/app-1.js", ""),
        ("GET /health", ""),
        ("GET /api/personalities", ""),
        ("GET /api/personalities", key),
        ("GET /api/personalities/nobody", key),
        ("PUT /api/token", key),
        ("POST /api/token", f"{key}Content-Length: 1000000000\r\n"),
        ("OPTIONS /api/token", f"Origin: {STRANGER}\r\nAccess-Control-Request-Method: POST\r\n"),
    ):
        status, headers, _ = await by_hand(part, what, given)
        seen.add(status)
        assert {name: headers.get(name) for name in SAFE} == {name: value.lower() for name, value in SAFE.items()}, what
        policy = headers["content-security-policy"]
        for rule in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert rule in policy
        assert "unsafe" not in policy
        assert "microphone=(self)" in headers["permissions-policy"]
        assert "strict-transport-security" not in headers
        _, secure, _ = await by_hand(part, what, f"{given}X-Forwarded-Proto: https\r\n")
        assert int(secure["strict-transport-security"].partition("max-age=")[2]) > 10_000_000
    assert seen == {200, 401, 403, 404, 405, 413}


CLIMBING = (
    "/../secret.txt",
    "/assets/../../secret.txt",
    "/%2e%2e/secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/%252e%252e%252fsecret.txt",
    "/..%252fsecret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "/..%c0%afsecret.txt",
    "/..\\secret.txt",
    "/..%5csecret.txt",
    "/..%255csecret.txt",
    "/assets/..%5c..%5csecret.txt",
    "/....//secret.txt",
    "/.../secret.txt",
    "/.%2e/secret.txt",
    "//secret.txt",
    "//etc/passwd",
    "/%2fetc%2fpasswd",
    "/etc/passwd",
    "/file:///etc/passwd",
    "/%00",
    "/index.html%00.js",
    "/assets/%00/../../secret.txt",
    "/..%00/secret.txt",
    "/..%0d%0a/secret.txt",
    "/out/secret.txt",
    "/out/data/secret.txt",
    "/secret",
    "/assets/out.js",
    "/dist-not/secret.txt",
    "/../dist-not/secret.txt",
    "/..;/secret.txt",
    "/assets/",
    "/assets",
    "/.env",
    "/" + "../" * 20 + "etc/passwd",
    "/" + "%2e%2e/" * 20 + "etc/passwd",
    "http://localhost/../secret.txt",
)


@pytest.mark.parametrize("part", ["page"], indirect=True)
async def test_nothing_outside_the_pages_folder_is_served(part: Running) -> None:
    for path in CLIMBING:
        for headers in ("", "Authorization: Bearer key\r\n", "Range: bytes=0-5\r\nAuthorization: Bearer key\r\n"):
            status, _, body = await by_hand(part, f"GET {path}", headers)
            assert status in (400, 401, 404), (path, status)
            assert b"a secret" not in body, path
            assert b"root:" not in body, path
            assert set(json.loads(body)) == {"error"}, path
