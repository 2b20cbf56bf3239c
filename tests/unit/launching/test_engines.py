"""What the launcher knows of the engines before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from launching.engines import engines_chosen
from settings import GROUPS, Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (name.upper() for group in GROUPS for name in group.model_fields):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def kinds(lines: tuple[str, ...]) -> list[str]:
    return [line.split(":")[0] for line in lines]


def test_with_nothing_configured_the_embedded_engines_answer_and_no_service_is_needed() -> None:
    chosen = engines_chosen(Settings(), ())
    assert kinds(chosen.lines) == ["stt", "chat", "tts"]
    assert [line.split()[1] for line in chosen.lines] == ["pocketsphinx", "companion", "espeak"]
    assert chosen.problems == ()
    assert chosen.through_services == frozenset()


def test_a_service_that_conversations_go_through_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTS", "service espeak")
    assert engines_chosen(Settings(), ("server", "tts")).through_services == {"tts"}


def test_where_no_conversations_are_held_only_the_engines_of_the_services_count() -> None:
    assert kinds(engines_chosen(Settings(), ("chat", "livekit")).lines) == ["chat"]
    assert engines_chosen(Settings(), ("livekit", "page")).lines == ()


def test_a_name_that_is_no_engine_is_a_problem_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT", "parrot")
    chosen = engines_chosen(Settings(), ())
    (problem,) = chosen.problems
    assert problem.startswith("chat: NO ENGINE.") and "parrot" in problem
    assert kinds(chosen.lines) == ["stt", "tts"], "the others are told all the same"
