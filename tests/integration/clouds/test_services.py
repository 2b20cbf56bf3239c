"""The clouds behind our own services' paths."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from engines.select import choose_one
from services import chat
from settings import GROUPS, Settings
from tests.served import served, until_healthy
from tests.vendors.openai_style import MODEL, OpenAIStyle
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
    monkeypatch.setenv("CHAT_FIRST_DEADLINE", "1.5")
    groq.trouble.hangs_after = 0
    client = await chat_client(stack)
    refused = await client.post("/chat/groq", json={"text": "Hello."})
    assert refused.json()["error"] == {"code": "unavailable", "message": "groq did not answer in time."}
