"""A livekit-server and a token server that people and scripted agents of the tests really use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from livekit import api

from tests.integration.token_server.stage import PAGE, Served, serving
from tests.livekit_server import LiveKitServer, running_livekit_server


@pytest.fixture(scope="module")
def livekit() -> Iterator[LiveKitServer]:
    with running_livekit_server() as server:
        yield server


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, livekit: LiveKitServer) -> pytest.MonkeyPatch:
    """Settings that lead to the test's livekit-server and nowhere else, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("LIVEKIT_URL", "API_KEYS", "ADMIN_KEYS", "DATABASE_URL", "HOST", "MAX_CONVERSATIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LIVEKIT_PORT", str(livekit.port))
    monkeypatch.setenv("LIVEKIT_API_KEY", livekit.key)
    monkeypatch.setenv("LIVEKIT_API_SECRET", livekit.secret)
    return monkeypatch


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A built page."""
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE)
    return folder


@pytest.fixture
async def served(environment: pytest.MonkeyPatch, page: Path) -> AsyncIterator[Served]:
    async with serving(page) as running:
        yield running


@pytest.fixture
async def admin(livekit: LiveKitServer) -> AsyncIterator[api.LiveKitAPI]:
    async with api.LiveKitAPI(livekit.url.replace("ws", "http"), livekit.key, livekit.secret) as client:
        yield client
