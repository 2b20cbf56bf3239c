"""The clouds behind our own services' paths."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from engines.select import choose_one
from services import chat, tts
from settings import GROUPS, Settings
from tests.served import served, until_healthy
from tests.vendors.cartesia import CartesiaServer
from tests.vendors.elevenlabs import ElevenLabsServer
from tests.vendors.openai_style import MODEL, OpenAIStyle
from tests.vendors.spoken import OTHER_VOICE, VOICE, SpeakingServer, seconds
from tests.vendors.trouble import KEY, serving


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[AsyncExitStack]:
    """A bare machine; what is opened on it is closed at the end."""
    monkeypatch.chdir(tmp_path)
    for group in GROUPS:
        for name in group.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def groq(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> OpenAIStyle:
    server = OpenAIStyle()
    monkeypatch.setenv("GROQ_URL", await stack.enter_async_context(serving(server.app())))
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    monkeypatch.setenv("GROQ_CHAT_MODEL", MODEL)
    monkeypatch.setenv("CHAT", "companion")
    return server


async def chat_client(stack: AsyncExitStack) -> httpx.AsyncClient:
    settings = Settings()
    url = await stack.enter_async_context(served(chat.create(settings, choose_one(settings, "chat", "service").engine)))
    await until_healthy(url)
    return await stack.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=30))


async def test_chat_groq_answers_with_groq_and_keeps_the_conversation(stack: AsyncExitStack, groq: OpenAIStyle) -> None:
    client = await chat_client(stack)
    answer = (await client.post("/chat/groq", json={"text": "What time is it?", "session_id": "s"})).json()
    assert answer["response"] == "It is noon." and answer["model"] == MODEL
    streamed = await client.post("/chat/groq", json={"text": "And now?", "session_id": "s", "stream": True})
    events = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
    assert [json.loads(event).get("delta") for event in events[:3]] == ["It ", "is ", "noon."]
    assert events[-1] == "[DONE]"
    assert [message["content"] for message in groq.asked[1]["messages"][1:]] == [
        "What time is it?",
        "It is noon.",
        "And now?",
    ]
    other = (await client.post("/chat", json={"text": "Hello.", "session_id": "t"})).json()
    assert other["model"] == "rules"


async def test_a_refusal_comes_through_with_its_fix(stack: AsyncExitStack, groq: OpenAIStyle) -> None:
    groq.trouble.status, groq.trouble.headers = 429, {"Retry-After": "30"}
    client = await chat_client(stack)
    refused = await client.post("/chat/groq", json={"text": "Hello."})
    assert refused.status_code == 503 and refused.headers["retry-after"] == "30"
    assert refused.json()["error"]["code"] == "full" and "Groq lets this key" in refused.json()["error"]["message"]


async def test_a_hanging_cloud_is_left_at_the_deadline(
    stack: AsyncExitStack, groq: OpenAIStyle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_FIRST_DEADLINE", "3")
    groq.trouble.hangs_after = 0
    client = await chat_client(stack)
    refused = await client.post("/chat/groq", json={"text": "Hello."})
    assert refused.json()["error"] == {"code": "unavailable", "message": "groq did not answer in time."}


Speaking = tuple[SpeakingServer, ClientConnection]


@pytest.fixture(params=["elevenlabs", "cartesia"])
async def speaking(
    request: pytest.FixtureRequest, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Speaking:
    """A vendor, and a client of its path of ours."""
    server = ElevenLabsServer() if request.param == "elevenlabs" else CartesiaServer()
    name = request.param.upper()
    address = await stack.enter_async_context(serving(server.app()))
    for variable, value in {"URL": address, "API_KEY": KEY, "MODEL": server.model, "VOICE": VOICE}.items():
        monkeypatch.setenv(f"{name}_{variable}", value)
    monkeypatch.setenv("TTS", "espeak")
    # Importing a vendor's package takes a part of it, and longer on a busy machine.
    monkeypatch.setenv("TTS_DEADLINE", "6")
    voices = tmp_path / "personalities" / "voices"
    voices.mkdir(parents=True)
    (voices / "ada.yaml").write_text(
        f"name: Ada\nlanguage: en-GB\nengines:\n  {request.param}: {OTHER_VOICE}\n  espeak: en-gb\n"
    )
    (voices.parent / "ada.yaml").write_text("name: Ada\nprompt: You are Ada.\nvoice: ada\nlanguage: en-GB\n")
    monkeypatch.setenv("PERSONALITIES_DIR", str(voices.parent))
    monkeypatch.setenv("DEFAULT_PERSONALITY", "ada")
    settings = Settings()
    url = await stack.enter_async_context(served(tts.create(settings, choose_one(settings, "tts", "service").engine)))
    await until_healthy(url)
    path = f"ws{url.removeprefix('http')}/tts/stream/{request.param}"
    return server, await stack.enter_async_context(connect(path, proxy=None, max_size=None))


async def heard(client: ClientConnection) -> tuple[float, list[dict[str, str]]]:
    """Seconds of sound until the reply's end, and the texts before it."""
    samples_heard, texts = 0, []
    while True:
        message = await asyncio.wait_for(client.recv(), 20)
        if isinstance(message, bytes):
            samples = np.frombuffer(message, "<f4")
            assert np.all(samples == 0.25)
            samples_heard += len(samples)
        elif (fields := json.loads(message))["type"] == "tts_stream_end":
            return samples_heard / 24_000, texts
        else:
            texts.append(fields)


async def test_a_clouds_path_speaks_in_the_personalitys_voice(speaking: Speaking) -> None:
    server, client = speaking
    await client.send(json.dumps({"text": "Good morning.", "personality": "ada"}))
    assert await heard(client) == (seconds("Good morning."), [])
    await client.send(json.dumps({"text": "How are ", "personality": "ada", "more": True}))
    await client.send(json.dumps({"text": "you?"}))
    assert await heard(client) == (seconds("How are you?"), [])
    assert server.opened == 1
    assert OTHER_VOICE in str(server.requests) + str(server.asked)


async def test_a_clouds_reply_is_cancelled(speaking: Speaking) -> None:
    server, client = speaking
    server.pause = 0.02
    await client.send(json.dumps({"text": "A long story. " * 20, "personality": "ada"}))
    assert isinstance(await asyncio.wait_for(client.recv(), 20), bytes)
    await client.send(json.dumps({"type": "cancel"}))
    sound, texts = await heard(client)
    assert sound < seconds("A long story. " * 20) / 2 and texts == []
    server.pause = 0.0
    await client.send(json.dumps({"text": "Good morning.", "personality": "ada"}))
    assert await heard(client) == (seconds("Good morning."), [])
    assert server.opened == 1


@pytest.mark.parametrize(
    ("trouble", "code", "said"),
    [
        ({"status": 401}, "not_configured", "_API_KEY to a valid one"),
        ({"status": 404}, "not_configured", "voice 'another-voice'"),
        ({"status": 429}, "full", "no more for now"),
        ({"status": 500}, "unavailable", "try again later"),
        ({"hangs_after": 0}, "unavailable", "did not answer in time"),
        ({"cut_after": 1}, "unavailable", "broke off"),
    ],
)
async def test_a_clouds_trouble_is_told_and_the_next_reply_works(
    speaking: Speaking, trouble: dict[str, int], code: str, said: str
) -> None:
    server, client = speaking
    for name, value in trouble.items():
        setattr(server.trouble, name, value)
    await client.send(json.dumps({"text": "Good morning everybody.", "personality": "ada"}))
    _, (told,) = await heard(client)
    assert told["code"] == code and said in told["message"] and KEY not in told["message"]
    server.trouble.clear()
    await client.send(json.dumps({"text": "Good morning.", "personality": "ada"}))
    assert await heard(client) == (seconds("Good morning."), [])
