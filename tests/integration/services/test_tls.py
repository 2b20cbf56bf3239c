"""A part with TLS: it is reached by those who trust its certificate, and takes up a renewed one while it runs."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect

from services import server as server_module
from services.http import accept, create_app
from services.server import bind, make_server
from settings import GROUPS, Settings
from settings.tls import Certificate, certificate

HEALTHY = Path(__file__).resolve().parents[3] / "deploy" / "healthy.py"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    for name in (name.upper() for group in GROUPS for name in group.model_fields):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLS", "1")
    return Settings()


def trusting(chosen: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(chosen.authority))


@asynccontextmanager
async def serving(settings: Settings, chosen: Certificate) -> AsyncIterator[int]:
    async def health() -> tuple[bool, dict[str, str]]:
        return True, {}

    app: FastAPI = create_app("some part", settings, health=health)

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        if await accept(ws, settings):
            await ws.send_text(await ws.receive_text())

    sock = bind("127.0.0.1", 0)
    server = make_server(app, chosen)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn sets no event
            await asyncio.sleep(0.01)
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def test_https_and_wss_for_those_who_trust_it(settings: Settings) -> None:
    chosen = certificate(settings)
    assert chosen is not None
    async with serving(settings, chosen) as port:
        async with httpx.AsyncClient(verify=trusting(chosen), trust_env=False) as client:
            assert (await client.get(f"https://localhost:{port}/health")).json() == {"status": "ok"}
        async with httpx.AsyncClient(trust_env=False) as stranger:
            with pytest.raises(httpx.ConnectError):
                await stranger.get(f"https://localhost:{port}/health")
        async with connect(f"wss://localhost:{port}/echo", ssl=trusting(chosen), proxy=None) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"


async def test_a_page_of_an_unknown_origin_is_told_so_over_tls_too(settings: Settings) -> None:
    chosen = certificate(settings)
    assert chosen is not None
    async with serving(settings, chosen) as port:
        address = f"wss://localhost:{port}/echo"
        async with connect(address, ssl=trusting(chosen), proxy=None, origin="https://elsewhere.example") as ws:
            assert json.loads(await ws.recv())["code"] == "forbidden"
        async with connect(address, ssl=trusting(chosen), proxy=None, origin=f"https://localhost:{port}") as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"


async def test_a_renewed_certificate_is_served_without_a_restart(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(server_module, "RENEWAL_TICKS", 1)
    chosen = certificate(settings)
    assert chosen is not None
    async with serving(settings, chosen) as port:
        first = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        chosen.cert.write_text("half a certificate")
        await asyncio.sleep(0.3)  # a look at it in the meantime
        assert await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port)) == first
        monkeypatch.setenv("PUBLIC_URL", "https://voice.example")
        assert certificate(Settings()) == chosen
        async with asyncio.timeout(30):
            while await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port)) == first:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def test_a_containers_health_check_asks_over_tls(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> None:
    chosen = certificate(settings)
    assert chosen is not None
    async with serving(settings, chosen) as port:
        monkeypatch.setenv("PAGE_PORT", str(port))
        asked = await asyncio.create_subprocess_exec(sys.executable, str(HEALTHY), str(port), cwd=tmp_path)
        assert await asked.wait() == 0
        monkeypatch.setenv("TLS", "0")
        asked = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HEALTHY), str(port)), cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL
        )
        assert await asked.wait() == 1
