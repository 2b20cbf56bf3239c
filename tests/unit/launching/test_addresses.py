"""What a person is told about where the page is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from launching import addresses
from launching.addresses import farewell, gives_microphone, outer_addresses, page_addresses, show_code
from settings import GROUPS, Settings
from settings.tls import Certificate

MADE = Certificate(Path("cert.pem"), Path("cert.key"), Path("data/tls/authority.pem"))


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (name.upper() for group in GROUPS for name in group.model_fields):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(addresses, "outer_addresses", lambda: ["192.168.1.5", "10.0.0.7"])


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, ["http://localhost:8080"]),
        ({"TLS": "1"}, ["https://localhost:8080"]),
        ({"TLS": "1", "PAGE_PORT": "443"}, ["https://localhost"]),
        ({"HOST": "192.0.2.7"}, ["http://192.0.2.7:8080"]),
        (
            {"HOST": "0.0.0.0", "TLS": "1"},
            ["https://localhost:8080", "https://192.168.1.5:8080", "https://10.0.0.7:8080"],
        ),
        ({"HOST": "0.0.0.0", "TLS": "1", "PUBLIC_URL": "https://voice.example"}, ["https://voice.example"]),
    ],
)
def test_where_the_page_is(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: list[str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert page_addresses(Settings()) == told


@pytest.mark.parametrize(
    ("address", "gives"),
    [
        ("http://localhost:8080", True),
        ("http://127.0.0.1:8080", True),
        ("https://192.168.1.5:8080", True),
        ("http://192.168.1.5:8080", False),
        ("http://voice.example", False),
    ],
)
def test_browsers_give_the_microphone_to_secure_pages_only(address: str, gives: bool) -> None:
    assert gives_microphone(address) is gives


def test_phones_are_told_about_and_so_is_what_they_will_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(farewell(Settings(), None))) == 1
    monkeypatch.setenv("HOST", "0.0.0.0")
    said = "\n".join(farewell(Settings(), None))
    assert "Browsers give no microphone to http://192.168.1.5:8080" in said
    monkeypatch.setenv("TLS", "1")
    said = "\n".join(farewell(Settings(), MADE))
    assert "https://192.168.1.5:8080" in said and "no microphone" not in said
    assert "data/tls/authority.pem" in said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_code_for_phones_is_drawn_on_a_terminal_where_a_phone_could_talk(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    show_code(Settings(), terminal)
    assert terminal.getvalue() == ""
    monkeypatch.setenv("PUBLIC_URL", "https://voice.example")
    show_code(Settings(), terminal)
    assert len(terminal.getvalue().splitlines()) > 10
    file = io.StringIO()
    show_code(Settings(), file)
    assert file.getvalue() == ""


def test_addresses_of_this_machine_are_outer_ones() -> None:
    assert not [address for address in outer_addresses() if address.startswith("127.")]
