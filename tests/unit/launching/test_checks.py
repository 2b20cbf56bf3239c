"""Ports looked at before anything starts, and the doctor."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from launching import checks
from launching.checks import doctor, open_to_others, ports_in_use, why_taken
from launching.parts import Part, Port
from settings import GROUPS, Settings
from settings.livekit_keys import keys_path, livekit_keys


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (name.upper() for group in GROUPS for name in group.model_fields):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=["tcp", "udp"])
def taken(request: pytest.FixtureRequest) -> Iterator[Port]:
    kind = socket.SOCK_STREAM if request.param == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if request.param == "tcp":
            other.listen()
        yield Port(other.getsockname()[1], "SOME_PORT", "127.0.0.1", request.param)


def part(*ports: Port) -> Part:
    return Part("some", (), ports, "", "")


def test_a_port_in_use_is_named_with_its_part_and_variable_in_one_line(taken: Port) -> None:
    line = ports_in_use([part(taken)])
    assert line is not None
    assert f"port {taken.number} (some, SOME_PORT): in use" in line
    assert "\n" not in line


def test_a_port_in_use_on_loopback_is_in_use_everywhere(taken: Port) -> None:
    assert why_taken(Port(taken.number, "SOME_PORT", "0.0.0.0", taken.protocol)) == "in use"


def test_free_ports_are_no_matter(taken: Port) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        free = Port(other.getsockname()[1], "SOME_PORT", "127.0.0.1")
    assert ports_in_use([part(free)]) is None


def test_an_address_that_is_not_this_machines_is_said_to_be_so() -> None:
    line = ports_in_use([part(Port(15999, "SOME_PORT", "192.0.2.77"))])
    assert line is not None and "HOST=192.0.2.77 is not an address of this machine" in line


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [("127.0.0.1", "", False), ("0.0.0.0", "", True), ("0.0.0.0", "one", False), ("192.0.2.7", "", True)],
)
def test_an_open_address_without_keys_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, host: str, keys: str, warned: bool
) -> None:
    monkeypatch.setenv("HOST", host)
    monkeypatch.setenv("API_KEYS", keys)
    assert bool(open_to_others(Settings())) is warned


def findings(*ports: Port) -> dict[str, str]:
    """The doctor's findings: the first word of each with its state."""
    return {finding.text.split(":")[0].split()[0]: finding.state for finding in doctor(Settings(), [part(*ports)])}


def test_the_doctor_makes_nothing(tmp_path: Path) -> None:
    assert "FAIL" not in findings().values()
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_finds_a_key_file_that_others_can_read() -> None:
    livekit_keys(Settings())
    assert findings()["LiveKit"] == "ok"
    keys_path(Settings()).chmod(0o644)
    assert findings()["LiveKit"] == "warn"
    assert keys_path(Settings()).stat().st_mode & 0o777 == 0o644, "looking changes nothing"


def test_the_doctor_finds_a_damaged_key_file() -> None:
    livekit_keys(Settings())
    keys_path(Settings()).write_text("nothing here")
    assert findings()["LiveKit"] == "FAIL"


def test_the_doctor_finds_a_port_in_use(taken: Port) -> None:
    assert findings(taken)["port"] == "FAIL"


def test_the_doctor_finds_a_missing_livekit_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "livekit_server", lambda: None)
    assert findings()["livekit-server"] == "warn", "nobody asked for it"
    needs_it = [Part("livekit", (), (), "", "")]
    assert next(f.state for f in doctor(Settings(), needs_it) if f.text.startswith("livekit-server")) == "FAIL"


def test_the_doctor_finds_a_data_folder_that_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DATA_DIR", "file")
    monkeypatch.setenv("LIVEKIT_URL", "wss://example.org")
    assert findings()["data"] == "FAIL"
