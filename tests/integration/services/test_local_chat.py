"""The local chat model behind the real chat service: kept conversations, the OpenAI paths, and the fallback."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from engines.select import choose_one
from services import chat
from settings import GROUPS, Settings
from tests.models.llama import CONTINUED, DIALOGUES, FOLDER, GO_ON
from tests.served import served, until_healthy

STORY = "Tell me a story."


@pytest.fixture
async def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[AsyncExitStack]:
    """A machine with the tiny Llama as its chat model; what is opened on it is closed at the end."""
    monkeypatch.chdir(tmp_path)
    for group in GROUPS:
        for name in group.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CHAT", "llama,companion")
    monkeypatch.setenv("ENABLE_LOCAL_MODEL", "True")
    monkeypatch.setenv("CHAT_MODEL", str(FOLDER))
    monkeypatch.setenv("CHAT_DEVICE", "cpu")
    monkeypatch.setenv("CHAT_CONTEXT", "1024")
    # Loading torch takes its time on a busy machine.
    monkeypatch.setenv("CHAT_FIRST_DEADLINE", "60")
    monkeypatch.setenv("CHAT_NEXT_DEADLINE", "30")
    async with AsyncExitStack() as opened:
        yield opened


async def client_of(machine: AsyncExitStack) -> httpx.AsyncClient:
    settings = Settings()
    url = await machine.enter_async_context(
        served(chat.create(settings, choose_one(settings, "chat", "service").engine))
    )
    await until_healthy(url)
    return await machine.enter_async_context(httpx.AsyncClient(base_url=url, trust_env=False, timeout=90))


def events(answer: httpx.Response) -> list[str]:
    return [line.removeprefix("data: ") for line in answer.text.splitlines() if line]


async def test_conversations_are_kept_and_answered_side_by_side(machine: AsyncExitStack) -> None:
    client = await client_of(machine)

    async def talk(session: str, begun: str) -> list[str]:
        said = []
        for text in (begun, GO_ON):
            answer = (await client.post("/chat", json={"text": text, "session_id": session})).json()
            assert answer["model"] == str(FOLDER)
            said.append(answer["response"])
        return said

    told = await asyncio.gather(*(talk(f"{number}", begun) for number, begun in enumerate(CONTINUED)))
    assert told == [[DIALOGUES[begun], further] for begun, further in CONTINUED.items()]


async def test_a_reply_is_streamed(machine: AsyncExitStack) -> None:
    client = await client_of(machine)
    *deltas, whole, done = events(await client.post("/chat", json={"text": STORY, "session_id": "s", "stream": True}))
    assert done == "[DONE]" and json.loads(whole)["response"] == DIALOGUES[STORY]
    assert len(deltas) > 5 and "".join(json.loads(delta)["delta"] for delta in deltas) == DIALOGUES[STORY]


async def test_the_openai_paths_stream_and_name_the_model(machine: AsyncExitStack) -> None:
    client = await client_of(machine)
    [model] = (await client.get("/v1/models")).json()["data"]
    assert model["id"] == str(FOLDER) and model["owned_by"] == "llama"
    body = {"model": "any", "messages": [{"role": "user", "content": STORY}], "temperature": 0}
    whole = (await client.post("/v1/chat/completions", json=body)).json()
    assert whole["choices"][0]["message"]["content"] == DIALOGUES[STORY]
    *chunks, done = events(await client.post("/v1/chat/completions", json={**body, "stream": True}))
    text = "".join(json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert done == "[DONE]" and text == DIALOGUES[STORY]
    short = (await client.post("/v1/chat/completions", json={**body, "max_tokens": 3})).json()
    assert DIALOGUES[STORY].startswith(short["choices"][0]["message"]["content"])
    assert len(short["choices"][0]["message"]["content"]) < len(DIALOGUES[STORY])


async def test_a_damaged_model_is_named_and_the_companion_answers(
    machine: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(FOLDER, tmp_path / "damaged"))
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    monkeypatch.setenv("CHAT_MODEL", str(damaged))
    why = choose_one(Settings(), "chat", "service").why
    assert any("llama left out" in line and "model.safetensors is cut off" in line for line in why)
    answer = (await (await client_of(machine)).post("/chat", json={"text": "hello"})).json()
    assert answer["model"] == "rules" and answer["response"]


async def test_a_full_model_leaves_the_next_reply_to_the_companion(
    machine: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_SLOTS", "1")
    client = await client_of(machine)
    body = {"messages": [{"role": "user", "content": STORY}], "temperature": 0}
    answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(4)))
    replies = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    assert DIALOGUES[STORY] in replies
    assert any(reply != DIALOGUES[STORY] for reply in replies) and all(replies)
