"""Who is counted, and how many calls fit into a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from services import rates
from services.callers import counted_address, counted_caller
from services.errors import ApiError
from services.rates import Buckets, Rates
from settings import Settings


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "API_KEYS": "one,two",
        "ADMIN_KEYS": "boss",
        "SERVICE_API_KEY": "ours",
        "CALLS_PER_MINUTE": "60",
        "WRONG_KEYS_PER_MINUTE": "3",
    }.items():
        monkeypatch.setenv(name, value)
    return Settings()


def call(address: str | None = "198.51.100.7", key: str = "", *, kind: str = "http", **headers: str) -> HTTPConnection:
    sent = {**headers, **({"authorization": f"Bearer {key}"} if key and kind == "http" else {})}
    scope: dict[str, Any] = {
        "type": kind,
        "client": None if address is None else (address, 5000),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()],
        "query_string": f"api_key={key}".encode() if key and kind == "websocket" else b"",
    }
    return HTTPConnection(scope)


def test_a_minutes_calls_are_there_at_once_and_come_back_evenly(clock: Clock) -> None:
    buckets = Buckets(60, clock)
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") == pytest.approx(1.0)
    clock.now += 1.0
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0
    clock.now += 3600
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") > 0, "a bucket holds no more than a minute's calls"


def test_callers_do_not_share_a_bucket(clock: Clock) -> None:
    buckets = Buckets(1, clock)
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0
    assert buckets.take("b") == 0.0


def test_nobody_is_refused_without_a_limit(clock: Clock) -> None:
    buckets = Buckets(0, clock)
    assert not any(buckets.take("a") for _ in range(10_000))
    assert len(buckets) == 0


def test_a_clock_that_stands_still_gives_nothing_back(clock: Clock) -> None:
    buckets = Buckets(2, clock)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 30.0, 30.0]


def test_the_longest_silent_caller_is_forgotten_first(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "BUCKETS", 100)
    buckets = Buckets(1, clock)
    for number in range(1000):
        buckets.take("busy")
        buckets.take(f"stranger {number}")
    assert len(buckets) == 100
    assert buckets.take("busy") > 0


@pytest.mark.parametrize(
    ("conn", "name"),
    [
        (call("127.0.0.1"), None),
        (call("::1"), None),
        (call("::ffff:127.0.0.1"), None),
        (call(None), None),
        (call("198.51.100.7", "ours"), None),
        (call("198.51.100.7"), "198.51.100.7"),
        (call("198.51.100.7", "wrong"), "198.51.100.7"),
        (call("127.0.0.1", x_forwarded_for="127.0.0.1"), "127.0.0.1"),
        (call("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"),
        (call("::ffff:198.51.100.7"), "198.51.100.7"),
        (call("testclient"), "testclient"),
    ],
)
def test_a_caller_is_an_address_unless_it_is_one_of_us(settings: Settings, conn: HTTPConnection, name: str) -> None:
    assert counted_caller(conn, settings) == name


def test_a_key_names_its_caller_wherever_they_are_without_being_shown(settings: Settings) -> None:
    here = counted_caller(call("198.51.100.7", "one"), settings)
    assert here is not None
    assert here.startswith("key ")
    assert "one" not in here
    assert counted_caller(call("203.0.113.9", "one"), settings) == here
    assert counted_caller(call("203.0.113.9", "one", kind="websocket"), settings) == here
    assert counted_caller(call("203.0.113.9", "two"), settings) != here
    assert counted_caller(call("203.0.113.9", "boss"), settings) not in (None, here)
    # Where a key is known, a caller on this machine is still one of this machine.
    assert counted_caller(call("127.0.0.1", "one"), settings) is None


def test_a_caller_who_calls_too_often_is_told_when_to_go_on(settings: Settings, clock: Clock) -> None:
    counting = Rates(settings, clock)
    for _ in range(60):
        counting.call(call())
    with pytest.raises(ApiError) as refusal:
        counting.call(call())
    assert (refusal.value.status, refusal.value.code) == (429, "too_fast")
    assert refusal.value.headers["Retry-After"] == "1"
    counting.call(call("203.0.113.9"))
    for _ in range(1000):
        counting.call(call("127.0.0.1"))
    clock.now += 1
    counting.call(call())


def test_who_guesses_keys_has_to_wait_and_may_not_even_try(settings: Settings, clock: Clock) -> None:
    counting = Rates(settings, clock)
    for _ in range(3):
        counting.may_guess(call(key="wrong"))
        counting.guessed(call(key="wrong"))
    with pytest.raises(ApiError) as refusal:
        counting.may_guess(call(key="wrong"))
    assert (refusal.value.status, refusal.value.code) == (429, "too_fast")
    counting.may_guess(call("203.0.113.9", key="one"))
    clock.now += 20
    counting.may_guess(call(key="one"))
    counting.may_guess(call(key="one"))


def test_an_address_is_none_on_this_machine() -> None:
    assert counted_address(call("127.0.0.5")) is None
    assert counted_address(call("127.0.0.5", x_forwarded_for="203.0.113.9")) == "127.0.0.5"
