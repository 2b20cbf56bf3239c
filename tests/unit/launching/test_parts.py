"""Which parts are started, in which order, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from launching import parts
from launching.parts import DATABASE, NAMES, PartsError, all_parts, chosen_parts
from settings import GROUPS, Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (name.upper() for group in GROUPS for name in group.model_fields):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "livekit_server", lambda: "/usr/bin/livekit-server")


def command(name: str) -> str:
    return " ".join(next(part for part in all_parts(Settings()) if part.name == name).command)


def after(name: str, *through_services: str) -> set[str]:
    return set(next(part for part in all_parts(Settings(), through_services) if part.name == name).after) - {DATABASE}


def test_every_part_by_default() -> None:
    assert tuple(part.name for part in chosen_parts(Settings(), ())) == NAMES


@pytest.mark.parametrize("through", [(), ("stt",), ("stt", "chat", "tts")])
def test_every_part_gets_its_turn(through: tuple[str, ...]) -> None:
    started = {DATABASE}
    waiting = list(all_parts(Settings(), through))
    while waiting:
        ready = [part for part in waiting if set(part.after) <= started]
        assert ready, "these wait for each other"
        started |= {part.name for part in ready}
        waiting = [part for part in waiting if part not in ready]


def test_conversations_wait_for_the_services_they_go_through_and_no_others() -> None:
    assert after("server", "stt", "tts") == {"stt", "tts"}
    assert after("agent", "stt", "tts") == {"livekit", "stt", "tts"}
    assert after("server") == set()
    assert after("page") == {"livekit"}


def test_services_nobody_talks_through_are_started_when_people_can_talk() -> None:
    assert after("stt") == {"server", "page"}
    assert after("stt", "stt") == set()
    assert after("chat", "stt") == {"server", "page"}


def test_a_subset_comes_in_one_order_whatever_order_it_was_asked_in() -> None:
    assert [part.name for part in chosen_parts(Settings(), ("tts", "server", "chat"))] == ["chat", "tts", "server"]


def test_an_unknown_part_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(
        PartsError, match="no part 'whisper'; the parts are: livekit, stt, chat, tts, server, agent, page"
    ):
        chosen_parts(Settings(), ("whisper",))


def test_a_livekit_server_of_ones_own_takes_the_place_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_URL", "wss://example.org")
    assert "livekit" not in [part.name for part in chosen_parts(Settings(), ())]
    with pytest.raises(PartsError, match="unset it"):
        chosen_parts(Settings(), ("livekit",))


def test_without_livekit_server_the_error_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "livekit_server", lambda: None)
    with pytest.raises(PartsError, match="make setup"):
        chosen_parts(Settings(), ())
    assert chosen_parts(Settings(), ("chat",))


def test_ports_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STT_PORT", "9001")
    monkeypatch.setenv("LIVEKIT_UDP_PORT", "9882")
    found = {port.variable: port for part in all_parts(Settings()) for port in part.ports}
    assert found["STT_PORT"].number == 9001
    assert found["LIVEKIT_UDP_PORT"].protocol == "udp"
    assert len({port.number for port in found.values()}) == 9
    assert "--udp-port=9882" in command("livekit")


@pytest.mark.parametrize(
    ("host", "bound"),
    [
        ("127.0.0.1", "--bind=127.0.0.1 --port"),
        ("0.0.0.0", "--bind=0.0.0.0 --port"),
        ("192.0.2.7", "--bind=127.0.0.1 --bind=192.0.2.7 --port"),
    ],
)
def test_livekit_server_listens_where_our_own_parts_reach_it(
    monkeypatch: pytest.MonkeyPatch, host: str, bound: str
) -> None:
    monkeypatch.setenv("HOST", host)
    assert bound in command("livekit")


def test_with_tls_the_page_and_the_websocket_are_asked_over_it_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TLS", "1")
    secure = {part.name for part in all_parts(Settings()) if part.health.startswith("https://127.0.0.1:")}
    assert secure == {"page", "server"}


def test_livekit_server_is_told_which_address_to_give_to_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--node-ip" not in command("livekit")
    monkeypatch.setenv("NODE_IP", "203.0.113.7")
    assert "--node-ip=203.0.113.7" in command("livekit")


def test_no_secret_stands_on_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "the-key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "the-secret-of-more-than-32-characters")
    for part in all_parts(Settings()):
        assert "the-secret" not in " ".join(part.command)
