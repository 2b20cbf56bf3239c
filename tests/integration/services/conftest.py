"""The three services as processes with the embedded engines, one of each for a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from settings import GROUPS, Settings
from tests.served import ServiceProcess, running_service


@pytest.fixture(scope="module")
def stt_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service("stt", tmp_path_factory.mktemp("stt"), {"POCKETSPHINX_PROCESSES": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def chat_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service("chat", tmp_path_factory.mktemp("chat")) as running:
        yield running


@pytest.fixture(scope="module")
def tts_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service("tts", tmp_path_factory.mktemp("tts")) as running:
        yield running


@pytest.fixture
def make_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a bare machine with these variables on top, the data in the test's own folder."""

    def make(**variables: str) -> Settings:
        monkeypatch.chdir(tmp_path)
        for group in GROUPS:
            for name in group.model_fields:
                monkeypatch.delenv(name.upper(), raising=False)
        for name, value in {"DATA_DIR": str(tmp_path / "data"), **variables}.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return make
