"""The rules that every HTTP part keeps: one error shape, keys, origins, limits, health, metrics, a clear stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from fastapi import Depends, FastAPI, UploadFile, WebSocket
from pydantic import BaseModel
from websockets.exceptions import ConnectionClosed

from engines.types import EngineBadInput, EngineError, EngineFull, EngineNotConfigured, EngineUnavailable
from services.http import ApiError, accept, create_app, require_admin, send_json, ws_error
from settings import Settings
from tests.served import clean_environment, running_service, served

Make = Callable[..., Settings]


class Thing(BaseModel):
    text: str


def app_of(settings: Settings, healthy: list[bool] | None = None) -> FastAPI:
    async def health() -> tuple[bool, dict[str, Any]]:
        ok = healthy is None or healthy[0]
        return ok, {} if ok else {"reason": "the model is loading"}

    app = create_app("Test", settings, health=health, public_paths=("/", "/assets/*"), body_limit=1000)

    @app.get("/")
    @app.get("/assets/{name}")
    async def public(name: str = "") -> str:
        return "page"

    @app.post("/things")
    async def things(thing: Thing) -> Thing:
        return thing

    @app.post("/files")
    async def files(file: UploadFile) -> int:
        return len(await file.read())

    @app.put("/voices", dependencies=[Depends(require_admin)])
    async def voices() -> str:
        return "changed"

    @app.get("/raise/{what}")
    async def raising(what: str) -> None:
        raise {
            "own": ApiError(409, "conflict", "It is there already.", {"X-Why": "twice"}),
            "full": EngineFull("Full.", retry_after=2.5),
            "unset": EngineNotConfigured("Set KEY."),
            "down": EngineUnavailable("Start it."),
            "bad": EngineBadInput("No such language."),
            "failed": EngineError("It failed."),
            "bug": RuntimeError("secret"),
        }[what]

    @app.websocket("/live")
    async def live(ws: WebSocket) -> None:
        if await accept(ws, settings):
            async for text in ws.iter_text():
                await send_json(ws, {"echo": text})

    @app.websocket("/refusing")
    async def refusing(ws: WebSocket) -> None:
        if await accept(ws, settings):
            await ws_error(ws, "full", "é" * 200, 1013)

    return app


@pytest.fixture
async def client(make_settings: Make) -> AsyncIterator[httpx.AsyncClient]:
    async with served(app_of(make_settings())) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


@pytest.fixture
async def guarded(make_settings: Make) -> AsyncIterator[httpx.AsyncClient]:
    settings = make_settings(API_KEYS="one,two", ADMIN_KEYS="boss")
    async with served(app_of(settings)) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("what", "status", "code", "message", "header"),
    [
        ("own", 409, "conflict", "It is there already.", ("x-why", "twice")),
        ("full", 503, "full", "Full.", ("retry-after", "3")),
        ("unset", 503, "not_configured", "Set KEY.", None),
        ("down", 503, "unavailable", "Start it.", None),
        ("bad", 400, "bad_input", "No such language.", None),
        ("failed", 500, "engine_failed", "It failed.", None),
        ("bug", 500, "internal", "Something went wrong inside; the service's log says what.", None),
    ],
)
async def test_every_refusal_has_one_shape(
    client: httpx.AsyncClient, what: str, status: int, code: str, message: str, header: tuple[str, str] | None
) -> None:
    answer = await client.get(f"/raise/{what}")
    assert (answer.status_code, answer.json()) == (status, {"error": {"code": code, "message": message}})
    if header:
        assert answer.headers[header[0]] == header[1]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "said"),
    [
        ("GET", "/nothing", None, 404, "not_found", "nothing at this path"),
        ("DELETE", "/things", None, 405, "method_not_allowed", "method"),
        ("POST", "/things", "{}", 400, "bad_request", "text: Field required"),
        ("POST", "/things", '{"text": 5}', 400, "bad_request", "text: Input should be a valid string"),
        ("POST", "/things", "{oops", 400, "bad_request", "isn't valid JSON"),
        ("POST", "/things", '"' + "x" * 2000 + '"', 413, "too_big", "larger"),
    ],
)
async def test_what_the_framework_refuses_has_it_too(
    client: httpx.AsyncClient, method: str, path: str, body: str | None, status: int, code: str, said: str
) -> None:
    answer = await client.request(method, path, content=body, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert said in error["message"]


async def test_what_was_sent_is_not_repeated(client: httpx.AsyncClient) -> None:
    answer = await client.post("/things", json={"text": ["my secret"]})
    assert "secret" not in answer.text


async def test_a_body_without_a_length_is_measured_while_it_comes(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 100

    answer = await client.post("/things", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


async def test_a_file_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/files", files={"file": b"x" * 100})).json() == 100
    assert (await client.post("/files", files={"file": b"x" * 5_000_000})).status_code == 413


async def test_health_says_why_it_is_not_well(make_settings: Make) -> None:
    healthy = [False]
    async with served(app_of(make_settings(), healthy)) as url, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{url}/health")
        assert (answer.status_code, answer.json()["reason"]) == (503, "the model is loading")
        healthy[0] = True
        assert (await client.get(f"{url}/health")).status_code == 200


async def test_metrics_count_by_route(client: httpx.AsyncClient) -> None:
    await client.get("/raise/full")
    await client.get("/raise/own")
    await client.get("/one/of/many/unknown/paths")
    page = (await client.get("/metrics")).text
    assert 'voice_node_requests_total{method="GET",route="/raise/{what}",status="503"} 1.0' in page
    assert 'voice_node_requests_total{method="GET",route="unknown",status="404"} 1.0' in page
    assert "unknown/paths" not in page
    assert 'voice_node_request_seconds_count{method="GET",route="/raise/{what}"} 2.0' in page


async def test_two_apps_live_in_one_process(make_settings: Make) -> None:
    async with (
        served(app_of(make_settings())) as one,
        served(app_of(make_settings())) as other,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        await client.get(f"{one}/")
        assert 'route="/",' not in (await client.get(f"{other}/metrics")).text


async def test_without_a_key_only_health_and_public_paths_answer(guarded: httpx.AsyncClient) -> None:
    for path in ("/health", "/", "/assets/app.js"):
        assert (await guarded.get(path)).status_code == 200
    for path in ("/metrics", "/raise/own", "/nothing", "/openapi.json", "/assetsX", "/health/"):
        answer = await guarded.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    answer = await guarded.post("/things", json={"text": "hi"}, headers=bearer("wrong"))
    assert answer.status_code == 401
    for key in ("one", "two", "boss"):
        assert (await guarded.post("/things", json={"text": "hi"}, headers=bearer(key))).status_code == 200


async def test_a_key_in_the_address_is_not_taken_over_http(guarded: httpx.AsyncClient) -> None:
    assert (await guarded.get("/metrics?api_key=one")).status_code == 401


async def test_only_admin_keys_change_things(guarded: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    assert (await guarded.put("/voices", headers=bearer("boss"))).json() == "changed"
    answer = await guarded.put("/voices", headers=bearer("one"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert (await guarded.put("/voices")).status_code == 401
    assert (await client.put("/voices")).json() == "changed", "without ADMIN_KEYS any caller may"


async def test_pages_of_listed_origins_may_call(guarded: httpx.AsyncClient) -> None:
    for origin, allowed in (
        ("http://localhost:5173", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost.evil.example:80", False),
        ("http://localhost:80@evil.example", False),
        ("https://evil.example", False),
    ):
        preflight = await guarded.options(
            "/things",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        assert (preflight.headers.get("access-control-allow-origin") == origin) is allowed
        refusal = await guarded.post("/things", headers={"Origin": origin})
        assert refusal.status_code == 401
        assert (refusal.headers.get("access-control-allow-origin") == origin) is allowed, "errors are readable too"


async def socket_says(url: str, **options: Any) -> tuple[dict[str, Any], int | None]:
    """The first message on a WebSocket, and the code it is closed with (None: it stays open)."""
    async with websockets.connect(url.replace("http", "ws", 1), proxy=None, **options) as ws:
        with contextlib.suppress(ConnectionClosed):
            await ws.send("hello")
        first = json.loads(await ws.recv())
        try:
            async with asyncio.timeout(0.2 if "echo" in first else 10):
                await ws.recv()
        except ConnectionClosed:
            return first, ws.close_code
        except TimeoutError:
            pass
        return first, None


async def test_sockets_ask_for_a_key_and_look_at_the_origin(guarded: httpx.AsyncClient) -> None:
    url = str(guarded.base_url).rstrip("/") + "/live"
    assert await socket_says(f"{url}?api_key=two") == ({"echo": "hello"}, None)
    assert await socket_says(url, additional_headers=bearer("one")) == ({"echo": "hello"}, None)
    assert await socket_says(url, additional_headers=bearer("one"), origin="http://localhost:1") == (
        {"echo": "hello"},
        None,
    )
    for options, code in (
        ({}, "unauthorized"),
        ({"additional_headers": bearer("three")}, "unauthorized"),
        ({"additional_headers": bearer("one"), "origin": "https://evil.example"}, "forbidden"),
    ):
        error, closed = await socket_says(url, **options)
        assert (error["type"], error["code"], closed) == ("error", code, 1008)


async def test_an_unknown_socket_path_is_told_so(client: httpx.AsyncClient) -> None:
    error, closed = await socket_says(f"{client.base_url}/nothing")
    assert (error["code"], closed) == ("not_found", 4404)


async def test_a_long_reason_still_closes(client: httpx.AsyncClient) -> None:
    error, closed = await socket_says(f"{client.base_url}/refusing")
    assert (error["message"], closed) == ("é" * 200, 1013)


async def test_open_sockets_are_counted(client: httpx.AsyncClient) -> None:
    async with websockets.connect(f"{client.base_url}/live".replace("http", "ws", 1), proxy=None) as ws:
        await ws.send("hello")
        await ws.recv()
        assert 'voice_node_sockets_open{route="/live"} 1.0' in (await client.get("/metrics")).text


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = subprocess.run(
            [sys.executable, "-m", "services", "tts", "--port", str(taken.getsockname()[1])],
            env=clean_environment(DATA_DIR=str(tmp_path)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert "can't listen on 127.0.0.1" in ended.stderr
    assert "TTS_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TTS": "cartesia"}, "TTS=cartesia gives no engine"),
        ({"TTS": "service"}, "A service can't use itself"),
        ({"TTS_PORT": "many"}, "TTS_PORT: Input should be a valid integer"),
    ],
)
def test_a_service_that_cannot_be_is_one_clear_line(tmp_path: Path, variables: dict[str, str], said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services", "tts", "--port", "0"],
        env=clean_environment(DATA_DIR=str(tmp_path), **variables),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_ends_open_sockets_and_the_process(tmp_path: Path, how: signal.Signals) -> None:
    with running_service("tts", tmp_path) as service:
        async with websockets.connect(f"{service.url}/tts/stream".replace("http", "ws", 1), proxy=None) as ws:
            service.process.send_signal(how)
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            assert ws.close_code == 1012
        assert await asyncio.to_thread(service.process.wait, 20) == 0
        assert "Traceback" not in service.text()


def test_an_open_host_without_keys_is_warned_about(tmp_path: Path) -> None:
    with running_service("tts", tmp_path, {"HOST": "0.0.0.0"}) as service:
        assert "OPEN TO ANYONE" in service.text()
