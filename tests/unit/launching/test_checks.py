"""Ports looked at before anything starts, and doors that stand open."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from launching import checks
from launching.checks import open_to_others, ports_in_use, why_taken
from launching.holders import Holder
from launching.parts import Part, Port
from settings import GROUPS, Settings


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


def test_who_holds_a_port_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        line = ports_in_use([part(Port(other.getsockname()[1], "SOME_PORT", "127.0.0.1"))])
    assert line is not None and f"process {os.getpid()}" in line and "\n" not in line


def test_where_all_ports_are_our_own_running_parts_that_is_said(monkeypatch: pytest.MonkeyPatch, taken: Port) -> None:
    monkeypatch.setattr(checks, "holder", lambda port: Holder(7, "python -m token_server", ours=True))
    line = ports_in_use([part(taken)])
    assert line is not None and "by this Voice Node, which is running already" in line
