"""Whole conversations over the WebSocket with clouds: what fails is left within the turn, and tried again later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from compat_ws.service import create
from engines.select import Chosen, answering, hearing, named, speaking
from settings import GROUPS, Settings
from tests.e2e.legacy_client import LegacyClient, Reply
from tests.integration.compat_ws.conftest import serving as serving_app
from tests.scripted_engines import ScriptedTranscriber
from tests.speech import spoken
from tests.spoken import pcm
from tests.vendors.cartesia import CartesiaServer
from tests.vendors.elevenlabs import ElevenLabsServer
from tests.vendors.openai_style import MODEL, OpenAIStyle, segment
from tests.vendors.spoken import VOICE, seconds
from tests.vendors.trouble import KEY, serving

ANSWER = "It is noon."


@dataclass
class Scene:
    """A server of ours, the vendors it calls, and where it is."""

    http: str = ""
    hearing: OpenAIStyle = field(default_factory=lambda: OpenAIStyle(segments=[segment(" What time is it?")]))
    chat: OpenAIStyle = field(default_factory=OpenAIStyle)
    elevenlabs: ElevenLabsServer = field(default_factory=ElevenLabsServer)
    cartesia: CartesiaServer = field(default_factory=lambda: CartesiaServer(level=0.5))

    def caller(self) -> LegacyClient:
        """Somebody who talks to it, and isn't greeted."""
        return LegacyClient(f"ws{self.http.removeprefix('http')}", "s1", agent="storyteller", query="events=1")

    async def serving(self) -> dict[str, str]:
        """Which engine serves for each kind, by the health page; the metrics must say the same."""
        async with httpx.AsyncClient(base_url=self.http, trust_env=False, timeout=20) as client:
            engines = (await client.get("/health")).json()["engines"]
            metrics = (await client.get("/metrics")).text
        names = {kind: each["name"] for kind, each in engines.items()}
        told = [line for line in metrics.splitlines() if line.startswith("voice_node_engine_serving{")]
        serving = [line for line in told if line.endswith(" 1.0")]
        assert len(serving) == 3
        for kind, name in names.items():
            assert f'voice_node_engine_serving{{engine="{name}",kind="{kind}"}} 1.0' in serving
        return names

    async def failures(self, engine: str) -> list[str]:
        """The codes of an engine's failures, by the metrics."""
        async with httpx.AsyncClient(base_url=self.http, trust_env=False, timeout=20) as client:
            metrics = (await client.get("/metrics")).text
        head = "voice_node_engine_failures_total{"
        told = [line for line in metrics.splitlines() if line.startswith(head) and f'engine="{engine}"' in line]
        return [line.split('code="')[1].split('"')[0] for line in told]


@asynccontextmanager
async def on_stage(settings: Settings, scene: Scene, chosen: Chosen) -> AsyncIterator[Scene]:
    async with serving_app(create(settings, chosen)) as (_, port):
        scene.http = f"http://127.0.0.1:{port}"
        yield scene


@pytest.fixture
async def scene(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Scene]:
    """Everything from clouds, with something embedded or scripted behind each; no key is ever logged."""
    caplog.set_level("INFO")
    caplog.set_level("DEBUG", "voice_node")
    monkeypatch.chdir(tmp_path)
    for group in GROUPS:
        for name in group.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
    made = Scene()
    async with (
        serving(made.hearing.app()) as hears,
        serving(made.chat.app()) as answers,
        serving(made.elevenlabs.app()) as eleven,
        serving(made.cartesia.app()) as cartesia,
    ):
        variables = {
            "DATA_DIR": str(tmp_path / "data"),
            "STT_DEADLINE": "3", "CHAT_FIRST_DEADLINE": "3", "CHAT_NEXT_DEADLINE": "3", "TTS_DEADLINE": "3",
            "GROQ_API_KEY": KEY, "GROQ_URL": hears, "GROQ_STT_MODEL": MODEL,
            "CHAT_URL": answers + "/openai/v1", "CHAT_URL_API_KEY": KEY,
            "ELEVENLABS_API_KEY": KEY, "ELEVENLABS_URL": eleven, "ELEVENLABS_VOICE": VOICE,
            "CARTESIA_API_KEY": KEY, "CARTESIA_URL": cartesia, "CARTESIA_VOICE": VOICE, "CARTESIA_MODEL": "a-model",
        }  # fmt: skip
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings = Settings()
        chosen = Chosen(
            hearing(settings, [named(settings, "stt", "groq", "conversation"), ScriptedTranscriber(["tell me more"])]),
            answering(settings, [named(settings, "chat", name, "conversation") for name in ("url", "companion")]),
            speaking(
                settings,
                [named(settings, "tts", name, "conversation") for name in ("elevenlabs", "cartesia", "espeak")],
            ),
            (),
        )
        async with on_stage(settings, made, chosen):
            yield made
    assert KEY not in caplog.text + str([vars(record) for record in caplog.records])


def level(reply: Reply) -> float:
    """How loud the middle of a reply is, which tells who spoke."""
    samples = np.asarray(reply.samples)
    return float(np.median(np.abs(samples))) if len(samples) else 0.0


ELEVEN, CARTESIA = pytest.approx(0.25, abs=0.001), pytest.approx(0.5, abs=0.001)


async def test_a_conversation_held_by_clouds_alone(scene: Scene) -> None:
    async with scene.caller() as client:
        await client.message("ready")
        await client.say(pcm(spoken("what time is it", peak_rms=0.3)))
        reply = await client.reply(0)
        assert level(reply) == ELEVEN and reply.seconds == pytest.approx(seconds(ANSWER))
        await client.message("transcript", role="agent", final=True)
        assert client.said("user") == ["What time is it?"]
        assert [text.strip() for text in client.said("agent")] == [ANSWER]
    assert await scene.serving() == {"stt": "groq", "chat": "url", "tts": "elevenlabs"}


async def ask(client: LegacyClient, number: int) -> Reply:
    """Type a question, and hear its answer out."""
    await client.send({"type": "text", "text": f"Question number {number}?"})
    return await client.reply(number)


async def test_health_and_metrics_say_which_engine_serves_and_why_another_does_not(scene: Scene) -> None:
    scene.elevenlabs.trouble.status = 503
    scene.elevenlabs.trouble.headers = {"Retry-After": "60"}
    async with scene.caller() as client:
        await client.message("ready")
        await scene.elevenlabs.drop_all()
        assert level(await ask(client, 0)) == CARTESIA
        assert (await scene.serving())["tts"] == "cartesia"
        async with httpx.AsyncClient(base_url=scene.http, trust_env=False, timeout=20) as http:
            answer = await http.get("/health")
        assert answer.status_code == 200, "somebody speaks"
        told = answer.json()["engines"]["tts"]
        assert told["ok"] and told["reason"].startswith(
            "elevenlabs: ElevenLabs has trouble of its own; try again later"
        )
        assert KEY not in answer.text


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        ({"status": 500}, "unavailable"),
        ({"status": 429, "headers": {"Retry-After": "2"}}, "full"),
        ({"hangs_after": 0}, "unavailable"),
        ({"cut_after": 0}, "unavailable"),
    ],
)
async def test_a_voice_that_fails_is_left_within_the_turn_and_tried_again(
    scene: Scene, trouble: dict[str, Any], code: str
) -> None:
    async with scene.caller() as client:
        await client.message("ready")
        assert level(await ask(client, 0)) == ELEVEN
        for name, value in trouble.items():
            setattr(scene.elevenlabs.trouble, name, value)
        scene.elevenlabs.begin()
        await scene.elevenlabs.drop_all()
        reply = await ask(client, 1)
        assert level(reply) == CARTESIA and reply.seconds == pytest.approx(seconds(ANSWER))
        assert await scene.failures("elevenlabs") == [code]
        scene.elevenlabs.trouble.clear()
        turn = 2
        while level(await ask(client, turn)) != ELEVEN:
            turn += 1
            assert turn < 60, "it was never tried again"
        assert (await scene.serving())["tts"] == "elevenlabs"
        assert [text.strip() for text in client.said("agent")][: turn - 1] == [ANSWER] * (turn - 1)
        assert "error" not in client.types


async def test_a_voice_cut_in_the_middle_keeps_what_was_said_and_the_next_turn_has_another(scene: Scene) -> None:
    scene.chat.words = ("This ", "answer ", "is ", "rather ", "a ", "long ", "one, ", "I ", "am ", "afraid.")
    async with scene.caller() as client:
        await client.message("ready")
        scene.elevenlabs.trouble.cut_after = 2
        begun = await ask(client, 0)
        assert 0 < begun.seconds < seconds("".join(scene.chat.words)) and level(begun) == ELEVEN
        told = await client.message("error")
        assert told["code"] == "unavailable" and "ElevenLabs's answer broke off" in told["message"]
        whole = await ask(client, 1)
        assert level(whole) == CARTESIA and whole.seconds == pytest.approx(seconds("".join(scene.chat.words)), abs=0.05)


async def test_all_voices_gone_but_the_embedded_one(scene: Scene) -> None:
    scene.elevenlabs.trouble.status = 401
    scene.cartesia.trouble.status = 402
    async with scene.caller() as client:
        await client.message("ready")
        await scene.elevenlabs.drop_all()
        await scene.cartesia.drop_all()
        reply = await ask(client, 0)
        assert reply.seconds > 0.3 and level(reply) not in (ELEVEN, CARTESIA)
        assert (await scene.serving())["tts"] == "espeak", "a wrong key isn't tried again for a minute"
        assert "error" not in client.types


async def test_a_chat_server_that_fails_is_left_within_the_turn(scene: Scene) -> None:
    scene.chat.trouble.status = 500
    async with scene.caller() as client:
        await client.message("ready")
        await ask(client, 0)
        await client.message("transcript", role="agent", final=True)
        assert await scene.failures("url") == ["unavailable"]
        assert client.said("agent")[0].strip() not in ("", ANSWER)
        scene.chat.trouble.clear()
        turn = 1
        while client.said("agent")[-1].strip() != ANSWER:
            await ask(client, turn)
            await client.message("transcript", number=turn, role="agent", final=True)
            turn += 1
            assert turn < 60, "it was never tried again"
        assert (await scene.serving())["chat"] == "url"


async def test_a_recognizer_that_fails_is_left_within_the_turn(scene: Scene) -> None:
    scene.hearing.trouble.status = 500
    async with scene.caller() as client:
        await client.message("ready")
        await client.say(pcm(spoken("what time is it", peak_rms=0.3)))
        await client.reply(0)
        assert client.said("user") == ["tell me more"]
    assert await scene.failures("groq") == ["unavailable"]
