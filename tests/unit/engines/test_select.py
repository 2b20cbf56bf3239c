"""Which engines are taken, where they run, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import catalog
from engines.catalog import Entry
from engines.chat.companion import Companion
from engines.chat.service import ServiceChat
from engines.failover import Line
from engines.fallback import FallbackChat, FallbackSynthesizer, FallbackTranscriber
from engines.select import choose, choose_one, named
from engines.stt.service import ServiceTranscriber
from engines.tts.espeak import Espeak
from engines.types import Engine, EngineFull, EngineNotConfigured
from settings import GROUPS, Settings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no .env of the developer's counts."""
    monkeypatch.chdir(tmp_path)
    for group in GROUPS:
        for name in group.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)


def alone(line: Engine) -> Engine:
    """The only engine of a conversation's line."""
    assert isinstance(line, Line)
    (engine,) = line.engines
    found: Engine = engine
    return found


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_auto_takes_the_embedded_engines_on_a_bare_machine_and_says_so() -> None:
    chosen = choose(Settings(), "conversation")
    assert [engine.info.name for engine in (chosen.stt, chosen.chat, chosen.tts)] == [
        "pocketsphinx",
        "companion",
        "espeak",
    ]
    assert len(chosen.why) == 3
    assert chosen.why[0] == (
        "stt: pocketsphinx (auto: the best that is configured and present; not available: whisper, groq)"
    )


def test_auto_in_a_service_takes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(choose_one(Settings(), "chat", "service").engine, Companion)
    assert isinstance(choose_one(Settings(), "tts", "service").engine, Espeak)


def test_auto_takes_a_cloud_whose_key_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose(settings(monkeypatch, GROQ_API_KEY="gsk", CARTESIA_API_KEY="sk_car"), "conversation")
    assert (chosen.stt.info.name, chosen.chat.info.name, chosen.tts.info.name) == ("groq", "groq", "cartesia")
    assert chosen.chat.info.model == "llama-3.3-70b-versatile" and chosen.chat.info.paid
    assert all("gsk" not in line and "sk_car" not in line for line in chosen.why)


def test_auto_takes_a_chat_server_whose_address_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose(settings(monkeypatch, CHAT_URL="http://127.0.0.1:11434/v1", GROQ_API_KEY="gsk"), "conversation")
    assert (chosen.chat.info.name, chosen.chat.info.device) == ("url", "127.0.0.1:11434")
    assert not chosen.chat.info.paid


def test_a_line_counts_as_paid_where_what_serves_or_a_better_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    spare = choose(settings(monkeypatch, CHAT="companion,groq", GROQ_API_KEY="gsk"), "conversation").chat
    assert (spare.info.name, spare.info.paid) == ("companion", False)
    line = choose(settings(monkeypatch, CHAT="groq,companion", GROQ_API_KEY="gsk"), "conversation").chat
    assert isinstance(line, FallbackChat) and (line.info.name, line.info.paid) == ("groq", True)
    next(line.attempts()).failed(EngineFull("wait", retry_after=60))
    assert (line.info.name, line.info.paid) == ("companion", True), "groq is tried again, perhaps in this conversation"


def test_a_cloud_has_its_deadline_in_a_service_too(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = choose_one(settings(monkeypatch, CHAT="groq", GROQ_API_KEY="gsk"), "chat", "service").engine
    assert isinstance(engine, FallbackChat) and alone(engine).info.name == "groq"


@pytest.mark.parametrize(
    ("variable", "name", "said"),
    [
        ("STT", "groq", "GROQ_API_KEY isn't set"),
        ("CHAT", "groq", "GROQ_API_KEY isn't set; put a key for it into .env."),
        ("CHAT", "llama", "ENABLE_LOCAL_MODEL"),
        ("CHAT", "url", "CHAT_URL"),
        ("STT", "whisper", "leave 'whisper' out of the list"),
        ("TTS", "xtts", "XTTS_MODEL_PATH"),
        ("TTS", "elevenlabs", "ELEVENLABS_API_KEY isn't set; put a key for it into .env."),
        ("TTS", "cartesia", "CARTESIA_API_KEY isn't set; put a key for it into .env."),
    ],
)
@pytest.mark.parametrize("place", ["conversation", "service"])
def test_an_engine_that_lacks_something_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, variable: str, name: str, said: str, place: str
) -> None:
    with pytest.raises(EngineNotConfigured) as raised:
        choose(settings(monkeypatch, **{variable: name}), place)  # type: ignore[arg-type]
    assert said in raised.value.message
    assert f"{variable}={name} gives no engine" in raised.value.message


def test_an_address_without_its_beginning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineNotConfigured, match="write it as http://host:port/v1"):
        choose(settings(monkeypatch, CHAT="url", CHAT_URL="localhost:11434/v1"), "conversation")


def test_an_unknown_name_is_refused_with_the_names_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineNotConfigured, match="'wisper', which is no engine; use auto or a list of groq, pocket"):
        choose(settings(monkeypatch, STT="wisper,pocketsphinx"), "conversation")


def test_what_cannot_be_built_is_left_out_of_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose(settings(monkeypatch, CHAT="groq, companion"), "conversation")
    assert chosen.chat.info.name == "companion"
    why = [line for line in chosen.why if line.startswith("chat")]
    assert why[0].startswith("chat: groq left out: ")
    assert why[1] == "chat: companion (named in CHAT)"


def test_several_engines_serve_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = choose_one(settings(monkeypatch, STT="service pocketsphinx service"), "stt", "conversation")
    assert isinstance(choice.engine, FallbackTranscriber)
    assert isinstance(choice.engine.serving, ServiceTranscriber)
    assert choice.why == (
        "stt: service through the service at http://127.0.0.1:8001 (named in STT)",
        "stt: pocketsphinx, number 2 in line (named in STT)",
    )


def test_a_list_may_end_in_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = choose_one(settings(monkeypatch, CHAT="service,auto"), "chat", "conversation").engine
    assert isinstance(engine, FallbackChat)
    assert engine.serving.info.name == "service"


def test_the_engines_of_a_conversation_have_the_deadlines_of_the_settings_also_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = choose(
        settings(monkeypatch, STT_DEADLINE="1.5", CHAT_FIRST_DEADLINE="30", CHAT_NEXT_DEADLINE="7", TTS_DEADLINE="2.5"),
        "conversation",
    )
    assert isinstance(chosen.stt, FallbackTranscriber) and chosen.stt.deadline == 1.5
    assert isinstance(chosen.chat, FallbackChat) and (chosen.chat.deadline, chosen.chat.next_deadline) == (30, 7)
    assert isinstance(chosen.tts, FallbackSynthesizer) and chosen.tts.deadline == 2.5
    assert [len(line.engines) for line in (chosen.stt, chosen.chat, chosen.tts)] == [1, 1, 1]


def test_a_service_cannot_use_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineNotConfigured, match="STT=service,pocketsphinx"):
        choose(settings(monkeypatch, STT="service"), "service")
    choice = choose_one(settings(monkeypatch, CHAT="service,companion"), "chat", "service")
    assert isinstance(choice.engine, Companion)


def test_a_service_is_reached_where_the_settings_say_with_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = settings(
        monkeypatch, CHAT="service", CHAT_SERVICE_URL="https://gpu.example/", API_KEYS="one,two", HOST="0.0.0.0"
    )
    engine = alone(choose(tree, "conversation").chat)
    assert isinstance(engine, ServiceChat)
    assert engine.info.device == "https://gpu.example"
    assert engine.headers == {"Authorization": "Bearer one"}
    other = alone(choose(settings(monkeypatch, SERVICE_API_KEY="mine"), "conversation").chat)
    assert isinstance(other, ServiceChat)
    assert other.headers == {"Authorization": "Bearer mine"}


def test_a_local_model_runs_in_its_service_and_is_reached_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    local = Entry("llama", "service", lambda _: "", lambda _: Companion())
    monkeypatch.setattr(catalog, "CHAT", dict(catalog.CHAT))
    monkeypatch.setitem(catalog.CHAT, "llama", local)  # type: ignore[arg-type]
    monkeypatch.setattr("engines.select.CHAT", catalog.CHAT)
    here = choose_one(Settings(), "chat", "conversation")
    assert isinstance(alone(here.engine), ServiceChat)
    assert here.why == (
        "chat: llama through the service at http://127.0.0.1:8002 (auto: the best that is configured and present)",
    )
    assert isinstance(choose_one(Settings(), "chat", "service").engine, Companion)


def test_an_engine_is_had_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(named(Settings(), "chat", "companion", "service"), Companion)
    with pytest.raises(EngineNotConfigured, match="GROQ_API_KEY"):
        named(Settings(), "chat", "groq", "service")
