"""The LiveKit key and secret: made once, kept for the owner only, overridden by the environment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from settings import Settings
from settings.livekit_keys import KeysError, keys_path, livekit_keys


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_first_call_makes_a_pair_that_only_the_owner_can_read() -> None:
    key, secret = livekit_keys(Settings())
    path = keys_path(Settings())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == f"{key}: {secret}\n"
    assert len(secret) >= 32


def test_later_calls_give_the_same_pair() -> None:
    assert livekit_keys(Settings()) == livekit_keys(Settings())


def test_processes_that_start_together_agree_on_one_pair(tmp_path: Path) -> None:
    settings = Settings()
    with ThreadPoolExecutor(16) as pool:
        pairs = set(pool.map(lambda _: livekit_keys(settings), range(64)))
    assert len(pairs) == 1
    assert [path.name for path in keys_path(settings).parent.iterdir()] == ["livekit.keys"]


def test_the_environment_wins_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "mine")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "x" * 40)
    assert livekit_keys(Settings()) == ("mine", "x" * 40)
    assert not keys_path(Settings()).exists()


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("LIVEKIT_API_KEY", "mine", "LIVEKIT_API_SECRET is not set"),
        ("LIVEKIT_API_SECRET", "x" * 40, "LIVEKIT_API_KEY is not set"),
        ("LIVEKIT_URL", "wss://example.org", "set its LIVEKIT_API_KEY"),
    ],
)
def test_half_a_setting_is_an_error_that_names_the_other_half(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, fix: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(KeysError, match=fix):
        livekit_keys(Settings())


def test_a_short_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "devkey")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "secret")
    with pytest.raises(KeysError, match="shorter than 32"):
        livekit_keys(Settings())


@pytest.mark.parametrize("text", ["", "no pair here", "a: [", "- list"])
def test_a_damaged_file_is_named_with_its_fix(text: str) -> None:
    path = keys_path(Settings())
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(KeysError, match=r"livekit\.keys holds no line .* delete it"):
        livekit_keys(Settings())


def test_a_file_readable_by_others_is_closed() -> None:
    pair = livekit_keys(Settings())
    path = keys_path(Settings())
    path.chmod(0o644)
    assert livekit_keys(Settings()) == pair
    assert path.stat().st_mode & 0o777 == 0o600
