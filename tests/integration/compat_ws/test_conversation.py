"""Whole conversations over the compat WebSocket: a client written from the contract alone, the real ear and builder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect

from compat_ws.service import create
from engines.select import Chosen
from settings import Settings
from tests.e2e.legacy_client import LegacyClient
from tests.integration.compat_ws.conftest import serving, until
from tests.scripted_engines import ScriptedChat, ScriptedTranscriber, ScriptedVoice
from tests.speech import spoken
from tests.spoken import pcm

LONG = "this answer is long enough to be interrupted while it is spoken because it has a great many words in it"


class Scene:
    """A server on scripted engines."""

    def __init__(self, address: str, stt: ScriptedTranscriber, chat: ScriptedChat, tts: ScriptedVoice) -> None:
        self.address, self.stt, self.chat, self.tts = address, stt, chat, tts

    def caller(self, session: str = "s1", query: str = "events=1", agent: str = "storyteller") -> LegacyClient:
        return LegacyClient(self.address, session, agent=agent, query=query)


@asynccontextmanager
async def on_stage(settings: Settings) -> AsyncIterator[Scene]:
    stt, chat, tts = ScriptedTranscriber([]), ScriptedChat(lambda _: "well done"), ScriptedVoice()
    app = create(settings, Chosen(stt=stt, chat=chat, tts=tts, why=()))
    async with serving(app) as (_, port):
        yield Scene(f"ws://127.0.0.1:{port}", stt, chat, tts)


@pytest.fixture
def detector() -> str:
    """The ear's; tests choose another one by a parameter of this name."""
    return "vad"


@pytest.fixture
async def scene(detector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DETECTOR", detector)
    async with on_stage(Settings()) as made:
        yield made


def said(text: str) -> bytes:
    return pcm(spoken(text, peak_rms=0.3))


EITHER = pytest.mark.parametrize("detector", ["vad", "energy"])


@EITHER
async def test_what_is_said_is_answered_aloud(scene: Scene) -> None:
    scene.stt.texts = ["good morning to you", "and how are you"]
    async with scene.caller() as client:
        await client.message("ready")
        await client.say(said("good morning to you"))
        reply = await client.reply(0)
        assert reply.seconds == pytest.approx(0.2)
        await client.say(said("and how are you"))
        await client.reply(1)
        await client.message("transcript", number=1, role="agent", final=True)
        assert client.said("user") == ["good morning to you", "and how are you"]
        assert [text.strip() for text in client.said("agent")] == ["well done", "well done"]
        record = await client.message("turn", number=1)
        assert (record["turn"], record["session"], record["heard"]) == (2, "s1", None)


@EITHER
async def test_speech_over_a_reply_stops_it_and_the_next_one_follows(scene: Scene) -> None:
    scene.stt.texts = ["tell me a long story", "please stop that right now"]
    scene.tts.seconds_per_word = 0.5
    scene.chat.answer = lambda messages: LONG if messages[-1].content == "tell me a long story" else "stopped"
    async with scene.caller() as client:
        await client.message("ready")
        await client.say(said("tell me a long story"))
        await client.sound(0, 1.0)
        await client.say(said("please stop that right now"))
        cut = await client.reply(0)
        assert cut.seconds < 0.5 * len(LONG.split()) * 0.7
        await client.message("interrupted")
        whole = await client.reply(1)
        assert whole.seconds == pytest.approx(0.5)


async def test_the_same_session_goes_on_where_it_stopped(scene: Scene) -> None:
    scene.stt.texts = ["my name is robin", "what is my name"]
    async with scene.caller() as client:
        await client.say(said("my name is robin"))
        await client.reply(0)
    async with scene.caller() as client:
        await client.say(said("what is my name"))
        await client.reply(0)
    told = [(message.role, message.content.strip()) for message in scene.chat.asked[-1] if message.role != "system"]
    assert told == [("user", "my name is robin"), ("assistant", "well done"), ("user", "what is my name")]


@pytest.mark.parametrize(("detector", "chunk"), [("vad", 640), ("vad", 8192), ("vad", 1_000_000), ("energy", 640)])
async def test_a_client_that_stops_sending_after_its_words_is_answered(scene: Scene, chunk: int) -> None:
    """Push to talk, a detector in the client, or a file sent in one go: no silence comes after the last word."""
    sound = said("good morning to you")
    scene.stt.texts = ["good morning to you"]
    async with connect(f"{scene.address}/ws/s1") as client:
        await client.send(json.dumps({"agentId": "storyteller", "userId": "u", "agentName": ""}))
        for at in range(0, len(sound), chunk):
            await client.send(sound[at : at + chunk])
            if chunk < len(sound):
                await asyncio.sleep(chunk / 32_000)
        while json.loads(await asyncio.wait_for(client.recv(), 20))["type"] != "tts_stream_end":
            pass
    assert scene.chat.asked[-1][-1].content == "good morning to you"


async def test_noise_over_a_reply_pauses_it_and_loses_nothing(scene: Scene) -> None:
    scene.stt.texts = ["tell me a long story", ""]
    scene.tts.seconds_per_word = 0.2
    scene.chat.answer = lambda _: LONG
    async with scene.caller() as client:
        await client.message("ready")
        await client.say(said("tell me a long story"))
        await client.sound(0, 1.0)
        await client.say(said("oh"))
        whole = await client.reply(0)
        assert whole.seconds == pytest.approx(0.2 * len(LONG.split()))
        assert "interrupted" not in client.types
        tone = (0.3 * np.sin(2 * np.pi * 220 * np.arange(4800) / 24_000)).astype(np.float32)
        expected = np.tile((tone * 32767).astype(np.int16), len(LONG.split()))
        assert np.round(np.asarray(whole.samples) * 32768).astype(np.int16).tolist() == expected.tolist()


async def test_many_conversations_at_once_keep_to_themselves(scene: Scene) -> None:
    scene.chat.answer = lambda messages: "one two three" if "three" in messages[-1].content else "one"
    clients = [scene.caller(f"many-{number}") for number in range(4)]
    for client in clients:
        await client.__aenter__()
    try:
        for client in clients:
            await client.message("ready")
        for number, client in enumerate(clients):
            await client.send({"type": "text", "text": "three" if number % 2 else "just one"})
        for number, client in enumerate(clients):
            assert (await client.reply(0)).seconds == pytest.approx(0.3 if number % 2 else 0.1)
    finally:
        for client in clients:
            await client.__aexit__(None, None, None)


async def test_the_greeting_is_spoken_first_and_only_once(scene: Scene) -> None:
    async with scene.caller("greeted", agent="assistant") as client:
        first = await client.reply(0)
        assert first.seconds > 0
        greeting = client.said("agent")[0]
    async with scene.caller("greeted", agent="assistant") as client:
        await client.message("ready")
        await client.send({"type": "text", "text": "hello"})
        await client.reply(0)
        await until(lambda: client.said("agent"))
        assert client.said("agent")[0] != greeting
