"""The public address and the origins that follow it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.keys import origin_allowed
from settings import GROUPS, Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (name.upper() for group in GROUPS for name in group.model_fields):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://voice.example", "https://voice.example"),
        ("https://voice.example:443/", "https://voice.example"),
        ("HTTPS://Voice.Example:8443", "https://voice.example:8443"),
        ("http://10.0.0.7:8080", "http://10.0.0.7:8080"),
        ("https://[2001:DB8::1]:8080", "https://[2001:db8::1]:8080"),
        ("", ""),
    ],
)
def test_the_public_address_is_kept_as_browsers_write_an_origin(
    monkeypatch: pytest.MonkeyPatch, written: str, url: str
) -> None:
    monkeypatch.setenv("PUBLIC_URL", written)
    assert Settings().network.public_url == url


@pytest.mark.parametrize(
    "written", ["voice.example", "wss://voice.example", "https://", "https://a/b", "https://a:port", "https://me@a"]
)
def test_what_is_no_such_address_is_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("PUBLIC_URL", written)
    with pytest.raises(ValidationError):
        Settings()


def test_pages_of_the_public_address_may_call_and_others_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not origin_allowed("https://voice.example", Settings())
    monkeypatch.setenv("PUBLIC_URL", "https://voice.example")
    assert origin_allowed("https://voice.example", Settings())
    assert origin_allowed("http://localhost:5173", Settings())
    for origin in ("http://voice.example", "https://voice.example.evil", "https://voice.example:8443"):
        assert not origin_allowed(origin, Settings())


def test_with_tls_pages_of_this_machine_are_secure_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not origin_allowed("https://localhost:8080", Settings())
    monkeypatch.setenv("TLS", "1")
    assert origin_allowed("https://localhost:8080", Settings())


@pytest.mark.parametrize(("written", "good"), [("203.0.113.7", True), ("203.0.113.7,2001:db8::1", True), ("me", False)])
def test_a_node_ip_is_an_address(monkeypatch: pytest.MonkeyPatch, written: str, good: bool) -> None:
    monkeypatch.setenv("NODE_IP", written)
    if good:
        assert Settings().livekit.node_ip == written
    else:
        with pytest.raises(ValidationError):
            Settings()
