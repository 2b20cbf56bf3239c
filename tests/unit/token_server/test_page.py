"""The built page as static files: served whole, with its headers, and nothing beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.http import create_app
from settings import Settings
from token_server.page import PUBLIC_PATHS, mount_page


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIVEKIT_URL", raising=False)
    built = tmp_path / "dist"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text("<!doctype html><title>page</title>")
    (built / "assets" / "index-abc.js").write_text("let page")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "dist-secret").mkdir()
    (tmp_path / "dist-secret" / "secret.txt").write_text("secret")
    (built / "way-out").symlink_to(tmp_path)
    return built


def app_of(folder: Path) -> FastAPI:
    async def health() -> tuple[bool, dict[str, Any]]:
        return True, {}

    settings = Settings()
    app = create_app("page", settings, health=health, public_paths=PUBLIC_PATHS)
    mount_page(app, settings, folder)
    return app


async def get(app: FastAPI, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """Ask for a path as it is written: httpx would tidy `..` away."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8080") as client:
        request = client.build_request("GET", "http://localhost:8080/", headers=headers)
        request.url = request.url.copy_with(raw_path=path.encode())
        return await client.send(request)


async def test_the_page_is_served_and_asked_for_anew_each_time(folder: Path) -> None:
    answer = await get(app_of(folder), "/")
    assert answer.status_code == 200
    assert "<title>page</title>" in answer.text
    assert answer.headers["cache-control"] == "no-cache"


async def test_files_named_after_their_content_may_be_kept(folder: Path) -> None:
    answer = await get(app_of(folder), "/assets/index-abc.js")
    assert answer.text == "let page"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]


async def test_the_policy_allows_the_page_itself_and_livekit_only(folder: Path) -> None:
    answer = await get(app_of(folder), "/", {"Host": "192.168.1.7:8080"})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "connect-src 'self' ws://192.168.1.7:7880 http://192.168.1.7:7880;" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/assets/../../secret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/..%2fdist-secret/secret.txt",
        "/..%5csecret.txt",
        "//secret.txt",
        "/%00secret.txt",
        "/way-out/secret.txt",
        "/nothing-here",
        "/assets/",
    ],
)
async def test_nothing_outside_the_folder_is_served(folder: Path, path: str) -> None:
    answer = await get(app_of(folder), path)
    assert answer.status_code in (400, 404), path
    assert "secret" not in answer.text
    assert set(answer.json()) == {"error"}


async def test_without_a_key_the_page_is_served_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "k1")
    app = app_of(folder)
    open_paths = ["/", "/assets/index-abc.js", "/health"]
    answers = await asyncio.gather(*(get(app, path) for path in open_paths))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    closed = await asyncio.gather(*(get(app, path) for path in ("/api/token", "/metrics", "/openapi.json", "/other")))
    assert [answer.status_code for answer in closed] == [401, 401, 401, 401]


async def test_a_page_that_is_not_built_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = app_of(tmp_path / "dist")
    answer = await get(app, "/")
    assert answer.status_code == 503
    assert "make setup" in answer.text
    assert (await get(app, "/assets/index.js")).status_code == 404


async def test_a_page_built_while_the_server_runs_is_served(folder: Path) -> None:
    index = folder / "index.html"
    text = index.read_text()
    index.unlink()
    app = app_of(folder)
    assert (await get(app, "/")).status_code == 503
    index.write_text(text)
    assert (await get(app, "/")).status_code == 200
