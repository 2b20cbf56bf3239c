"""Where a browser is told to find livekit-server."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from settings import Settings
from token_server.addresses import http_form, server_url


def request(host: str, scheme: str = "http") -> Request:
    headers = [(b"host", host.encode("latin-1"))]
    return Request({"type": "http", "scheme": scheme, "path": "/", "headers": headers, "server": ("127.0.0.1", 8080)})


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> pytest.MonkeyPatch:
    monkeypatch.chdir(str(tmp_path))
    for name in ("LIVEKIT_URL", "LIVEKIT_PORT", "HOST", "PAGE_PORT", "PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("host", "scheme", "url"),
    [
        ("localhost:8080", "http", "ws://localhost:7880"),
        ("192.168.1.7:8080", "http", "ws://192.168.1.7:7880"),
        ("[::1]:8080", "http", "ws://[::1]:7880"),
        ("", "http", "ws://127.0.0.1:7880"),
        ("evil; script-src *", "http", "ws://127.0.0.1:7880"),
        ("[::1", "http", "ws://127.0.0.1:7880"),
    ],
)
def test_livekit_is_on_the_host_that_the_browser_used(
    environment: pytest.MonkeyPatch, host: str, scheme: str, url: str
) -> None:
    assert server_url(request(host, scheme), Settings()) == url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("voice.example", "wss://voice.example"),
        ("192.168.1.7:8080", "wss://192.168.1.7:8080"),
        ("[::1]:8080", "wss://[::1]:8080"),
        ("evil; script-src *", "wss://127.0.0.1:8080"),
        ("voice.example:port", "wss://127.0.0.1:8080"),
    ],
)
def test_on_a_secure_page_signalling_is_at_the_pages_own_address(
    environment: pytest.MonkeyPatch, host: str, url: str
) -> None:
    assert server_url(request(host, "https"), Settings()) == url


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_public_address_is_signallings_too(environment: pytest.MonkeyPatch, scheme: str) -> None:
    environment.setenv("PUBLIC_URL", "https://Voice.example/")
    assert server_url(request("127.0.0.1:8080", scheme), Settings()) == "wss://voice.example"
    environment.setenv("PUBLIC_URL", "http://10.0.0.7:8080")
    assert server_url(request("127.0.0.1:8080", scheme), Settings()) == "ws://10.0.0.7:8080"
    environment.setenv("LIVEKIT_URL", "wss://livekit.example")
    assert server_url(request("127.0.0.1:8080", scheme), Settings()) == "wss://livekit.example"


def test_an_address_that_is_set_wins(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LIVEKIT_URL", "wss://livekit.example")
    assert server_url(request("localhost:8080"), Settings()) == "wss://livekit.example"


def test_addresses_for_plain_requests() -> None:
    assert http_form("ws://a:1") == "http://a:1"
    assert http_form("wss://a") == "https://a"
    assert http_form("https://a") == "https://a"
