"""The chat service over real HTTP, with the embedded companion and with a scripted engine."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI

from engines.chat.service import ServiceChat
from engines.types import (
    EngineBadInput,
    EngineError,
    EngineFull,
    EngineNotConfigured,
    EngineUnavailable,
    Message,
)
from library import Library
from services import chat
from settings import Settings
from tests.integration.services.sockets import relay, until
from tests.scripted_engines import ScriptedChat
from tests.served import ServiceProcess, running_service, served, until_healthy

Make = Callable[..., Settings]


class Told(ScriptedChat):
    """Says `a b c`, each word only when `go` is set; notes how its replies end."""

    def __init__(self, failure: EngineError | None = None, after: int = 0) -> None:
        super().__init__(lambda messages: "a b c")
        self.failure = failure
        self.after = after
        self.go = asyncio.Event()
        self.go.set()
        self.closed = asyncio.Event()
        self.options: list[dict[str, Any]] = []
        self.running = 0
        self.most_running = 0

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        conversation: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncGenerator[str, None]:
        self.asked.append(list(messages))
        self.options.append({"conversation": conversation, "max_tokens": max_tokens, "temperature": temperature})
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for n, word in enumerate(("a ", "b ", "c")):
                if self.failure and n == self.after:
                    raise self.failure
                yield word
                await asyncio.sleep(0)
                await self.go.wait()
        finally:
            self.running -= 1
            self.closed.set()


@pytest.fixture
def engine() -> Told:
    return Told()


@pytest.fixture
async def client(make_settings: Make, engine: Told) -> AsyncIterator[httpx.AsyncClient]:
    async with served(chat.create(make_settings(), engine)) as url:
        await until_healthy(url)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
            yield client


def events(text: str) -> list[Any]:
    """The values of a stream of server-sent events; the end is the string `[DONE]`."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


# --- kept conversations ---


async def test_a_conversation_is_kept_and_answered_in_its_personality(
    client: httpx.AsyncClient, engine: Told, make_settings: Make
) -> None:
    first = (await client.post("/chat", json={"text": " hello ", "session_id": "s/1", "personality": "coach"})).json()
    assert first == {"response": "a b c", "session_id": "s/1", "personality": "coach", "model": "scripted"}
    second = (await client.post("/chat", json={"text": "and now?", "session_id": "s/1"})).json()
    assert second["personality"] == "coach", "the one it was last held with"
    prompt, *rest = engine.asked[1]
    library = await Library.open(make_settings())
    coach = await library.personalities.get("coach")
    await library.aclose()
    assert coach is not None
    assert prompt == Message("system", coach.prompt)
    assert rest == [Message("user", "hello"), Message("assistant", "a b c"), Message("user", "and now?")]
    assert engine.options[1]["conversation"] == "s/1"
    kept = (await client.get("/chat/s/1")).json()
    assert [(each["role"], each["content"]) for each in kept["messages"]] == [
        ("user", "hello"),
        ("assistant", "a b c"),
        ("user", "and now?"),
        ("assistant", "a b c"),
    ]
    times = [each["at"] for each in kept["messages"]]
    assert times == sorted(times)


async def test_a_conversation_is_forgotten(client: httpx.AsyncClient) -> None:
    await client.post("/chat", json={"text": "hello", "session_id": "s"})
    assert (await client.delete("/chat/s")).json() == {"session_id": "s", "forgotten": True}
    assert (await client.get("/chat/s")).json() == {"session_id": "s", "messages": []}
    assert (await client.delete("/chat/s")).json() == {"session_id": "s", "forgotten": False}


async def test_without_a_session_a_new_one_begins_and_an_unknown_personality_gets_the_default(
    client: httpx.AsyncClient,
) -> None:
    one = (await client.post("/chat", json={"text": "hello", "personality": "nobody"})).json()
    two = (await client.post("/chat", json={"text": "hello"})).json()
    assert one["session_id"] != two["session_id"]
    assert one["personality"] == two["personality"] == "assistant"


async def test_only_the_newest_messages_are_shown_to_the_model(make_settings: Make, engine: Told) -> None:
    async with (
        served(chat.create(make_settings(HISTORY_MESSAGES="4"), engine)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client,
    ):
        await until_healthy(url)
        for n in range(5):
            await client.post("/chat", json={"text": str(n), "session_id": "s"})
    assert [message.content for message in engine.asked[-1][1:]] == ["a b c", "3", "a b c", "4"]


async def test_turns_of_one_conversation_wait_for_each_other(client: httpx.AsyncClient, engine: Told) -> None:
    engine.go.clear()
    turns = [
        asyncio.create_task(client.post("/chat", json={"text": f"{n}", "session_id": "same"})) for n in range(3)
    ] + [asyncio.create_task(client.post("/chat", json={"text": "other", "session_id": "other"}))]
    await until(lambda: len(engine.asked) == 2)
    assert {asked[-1].content == "other" for asked in engine.asked} == {True, False}
    engine.go.set()
    for turn in turns:
        assert (await turn).json()["response"] == "a b c"
    assert engine.most_running == 2
    kept = (await client.get("/chat/same")).json()["messages"]
    assert [each["role"] for each in kept] == ["user", "assistant"] * 3


async def test_a_streamed_turn_ends_with_the_whole_answer(client: httpx.AsyncClient) -> None:
    streamed = await client.post("/chat", json={"text": "hello", "session_id": "s", "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert events(streamed.text) == [
        {"delta": "a "},
        {"delta": "b "},
        {"delta": "c"},
        {"response": "a b c", "session_id": "s", "personality": "assistant", "model": "scripted"},
        "[DONE]",
    ]
    assert len((await client.get("/chat/s")).json()["messages"]) == 2


async def test_a_caller_who_leaves_a_stream_stops_the_model_and_what_was_said_is_kept(
    client: httpx.AsyncClient, engine: Told, make_settings: Make
) -> None:
    engine.go.clear()
    body = {"text": "hello", "session_id": "s", "stream": True}
    async with client.stream("POST", "/chat", json=body) as streamed:
        async for line in streamed.aiter_lines():
            assert json.loads(line.removeprefix("data: ")) == {"delta": "a "}
            break
    await asyncio.wait_for(engine.closed.wait(), 30)
    kept: list[Any] = []
    library = await Library.open(make_settings())
    while len(kept) < 2:
        kept = await library.conversations.messages("s")
    await library.aclose()
    assert [(each.role, each.content, each.interrupted) for each in kept] == [
        ("user", "hello", False),
        ("assistant", "a", True),
    ]


async def test_a_caller_who_leaves_before_the_answer_leaves_no_trace(client: httpx.AsyncClient, engine: Told) -> None:
    engine.go.clear()
    asking = asyncio.create_task(client.post("/chat", json={"text": "hello", "session_id": "s"}))
    await until(lambda: engine.asked)
    asking.cancel()
    await asyncio.wait_for(engine.closed.wait(), 30)
    engine.go.set()
    await client.post("/chat", json={"text": "again", "session_id": "s"})
    kept = (await client.get("/chat/s")).json()["messages"]
    assert [each["content"] for each in kept] == ["again", "a b c"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_fails_at_once_is_an_error_and_leaves_no_trace(
    client: httpx.AsyncClient, engine: Told, stream: bool
) -> None:
    engine.failure = EngineFull("Every place is taken.", retry_after=3)
    refusal = await client.post("/chat", json={"text": "hello", "session_id": "s", "stream": stream})
    assert (refusal.status_code, refusal.headers["retry-after"]) == (503, "3")
    assert refusal.json() == {"error": {"code": "full", "message": "Every place is taken."}}
    assert (await client.get("/chat/s")).json()["messages"] == []


async def test_an_engine_that_fails_midway_ends_the_stream_with_the_error(
    client: httpx.AsyncClient, engine: Told
) -> None:
    engine.failure, engine.after = EngineUnavailable("The model died."), 1
    streamed = await client.post("/chat", json={"text": "hello", "session_id": "s", "stream": True})
    assert events(streamed.text) == [
        {"delta": "a "},
        {"error": {"code": "unavailable", "message": "The model died."}},
        "[DONE]",
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_that_cannot_be_kept_is_told_and_leaves_no_half(
    client: httpx.AsyncClient, tmp_path: Path, stream: bool
) -> None:
    asked = {"text": "hello", "session_id": "s", "stream": stream}
    other = sqlite3.connect(tmp_path / "data" / "voice-node.db", isolation_level=None, timeout=5)
    try:
        other.execute("BEGIN IMMEDIATE")
        answer = await client.post("/chat", json=asked)
        if stream:
            *_, error, done = events(answer.text)
            assert (error["error"]["code"], done) == ("unavailable", "[DONE]")
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        health = await client.get("/health")
        assert (health.status_code, "is locked" in health.json()["reason"]) == (503, True)
    finally:
        other.close()
    assert (await client.get("/chat/s")).json()["messages"] == []
    assert (await client.post("/chat", json={**asked, "stream": False})).status_code == 200
    kept = (await client.get("/chat/s")).json()["messages"]
    assert [each["content"] for each in kept] == ["hello", "a b c"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "text: Field required"),
        ({"text": "   "}, "text: "),
        ({"text": "x" * 20_001}, "text: "),
        ({"text": "hi", "session_id": 5}, "session_id: "),
        ({"text": "hi", "session_id": ""}, "session_id: "),
        ({"text": "hi", "session_id": "x" * 300}, "session_id: "),
    ],
)
async def test_what_does_not_fit_is_named(client: httpx.AsyncClient, body: dict[str, Any], said: str) -> None:
    refusal = await client.post("/chat", json=body)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "bad_request")
    assert refusal.json()["error"]["message"].startswith(said)


async def test_groq_says_what_is_missing(client: httpx.AsyncClient) -> None:
    refusal = await client.post("/chat/groq", json={"text": "hello", "session_id": "s"})
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "not_configured")
    assert "GROQ_API_KEY" in refusal.json()["error"]["message"]


def test_context_survives_a_restart(tmp_path: Path) -> None:
    def ask(service: ServiceProcess, text: str) -> str:
        body = {"text": text, "session_id": "mine", "personality": "assistant"}
        answered = httpx.post(f"{service.url}/chat", json=body, trust_env=False, timeout=60)
        return str(answered.json()["response"])

    with running_service("chat", tmp_path) as service:
        ask(service, "My name is Aurelia.")
        assert service.stop() == 0
    with running_service("chat", tmp_path) as service:
        assert "Aurelia" in ask(service, "What is my name?")
        kept = httpx.get(f"{service.url}/chat/mine", trust_env=False).json()["messages"]
        assert [each["role"] for each in kept] == ["user", "assistant"] * 2


async def test_a_database_that_cannot_be_opened_is_told(make_settings: Make, engine: Told, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    settings = make_settings(DATA_DIR=str(tmp_path / "file" / "data"))
    async with served(chat.create(settings, engine)) as url, httpx.AsyncClient(trust_env=False) as client:
        body: dict[str, Any] = {"reason": "starting"}
        while body["reason"] == "starting":
            sick = await client.get(f"{url}/health")
            body = sick.json()
        assert sick.status_code == 503
        refusal = await client.post(f"{url}/chat", json={"text": "hi"})
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "unavailable")
        assert body["reason"] in refusal.json()["error"]["message"]


# --- as OpenAI's ---


async def test_the_openai_client_works(chat_service: ServiceProcess) -> None:
    client = AsyncOpenAI(base_url=f"{chat_service.url}/v1", api_key="none")
    asked: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "My name is Aurelia."}]
    whole = await client.chat.completions.create(model="anything", messages=asked)
    assert whole.choices[0].message.role == "assistant"
    assert whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    assert whole.object == "chat.completion"
    said = ""
    streamed = await client.chat.completions.create(
        model="anything", messages=asked, stream=True, stream_options={"include_usage": True}, temperature=0.5
    )
    async for chunk in streamed:
        said += chunk.choices[0].delta.content or ""
        assert chunk.model == whole.model
    assert said
    assert chunk.choices[0].finish_reason == "stop"
    models = [model async for model in client.models.list()]
    assert [model.id for model in models] == [whole.model]
    await client.close()


async def test_completions_pass_on_what_engines_understand(client: httpx.AsyncClient, engine: Told) -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "go on"},
        ],
        "prompt_cache_key": "conversation 7",
        "max_completion_tokens": 5,
        "temperature": 0.25,
    }
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    assert engine.asked == [
        [
            Message("system", "Be brief."),
            Message("user", "one two"),
            Message("assistant", "yes"),
            Message("user", "go on"),
        ]
    ]
    assert engine.options == [{"conversation": "conversation 7", "max_tokens": 5, "temperature": 0.25}]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"messages": []}, "messages: "),
        ({"messages": [{"role": "tool", "content": "5"}]}, "messages.0.role: one of"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content: only text"),
        ({"n": 2}, "n: "),
        ({"tools": [{"type": "function"}]}, "tools: "),
        ({"response_format": {"type": "json_object"}}, "response_format: only text"),
        ({"temperature": 3}, "temperature: "),
        ({"max_tokens": 0}, "max_tokens: "),
    ],
)
async def test_what_cannot_be_honoured_is_refused(client: httpx.AsyncClient, extra: dict[str, Any], said: str) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], **extra}
    refusal = await client.post("/v1/chat/completions", json=body)
    assert refusal.status_code == 400
    assert refusal.json()["error"]["message"].startswith(said)


@pytest.mark.parametrize(("stop", "said"), [("b", "a "), (["x", "b c"], "a "), (["nothing"], "a b c"), ("a", "")])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_ends_before_a_stop_word(
    client: httpx.AsyncClient, engine: Told, stop: str | list[str], said: str, stream: bool
) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "stop": stop, "stream": stream}
    answered = await client.post("/v1/chat/completions", json=body)
    if stream:
        chunks = events(answered.text)
        assert chunks[-1] == "[DONE]"
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]) == said
    else:
        assert answered.json()["choices"][0]["message"]["content"] == said
    assert engine.closed.is_set()


async def test_the_openai_client_gets_our_errors(make_settings: Make) -> None:
    engine = Told(EngineNotConfigured("Set CHAT_URL."))
    async with served(chat.create(make_settings(API_KEYS="k"), engine)) as url:
        client = AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)
        asked: Any = [{"role": "user", "content": "hi"}]
        with pytest.raises(APIStatusError) as raised:
            await client.chat.completions.create(model="m", messages=asked, stream=True)
        assert raised.value.status_code == 503
        assert raised.value.body == {"code": "not_configured", "message": "Set CHAT_URL."}
        with pytest.raises(APIStatusError) as refused:
            await client.with_options(api_key="wrong").models.list()
        assert refused.value.status_code == 401
        await client.close()


# --- the service as an engine ---

HELLO = [Message("system", "Be kind."), Message("user", "hello")]


async def said_by(engine: ServiceChat, **options: Any) -> list[str]:
    return [piece async for piece in engine.reply(HELLO, **options)]


async def test_the_service_is_an_engine(client: httpx.AsyncClient, engine: Told) -> None:
    service = ServiceChat(str(client.base_url).rstrip("/"))
    await service.start()
    assert (service.info.name, service.info.model) == ("service", "scripted")
    assert await said_by(service, conversation="c", max_tokens=9, temperature=0.5) == ["a ", "b ", "c"]
    assert engine.asked == [HELLO]
    assert engine.options == [{"conversation": "c", "max_tokens": 9, "temperature": 0.5}]
    assert service.capacity.held == 0
    await service.aclose()


async def test_closing_a_reply_stops_the_engine_behind_the_service(client: httpx.AsyncClient, engine: Told) -> None:
    service = ServiceChat(str(client.base_url).rstrip("/"))
    engine.go.clear()
    reply = service.reply(HELLO)
    assert await anext(reply) == "a "
    assert service.capacity.held == 1
    await reply.aclose()
    await asyncio.wait_for(engine.closed.wait(), 30)
    assert service.capacity.held == 0
    await service.aclose()


@pytest.mark.parametrize(
    "failure",
    [
        EngineFull("Full.", retry_after=3),
        EngineNotConfigured("Set KEY."),
        EngineUnavailable("Down."),
        EngineBadInput("Too long."),
        EngineError("It failed."),
    ],
)
@pytest.mark.parametrize("after", [0, 1])
async def test_engine_errors_come_back_as_they_were(
    client: httpx.AsyncClient, engine: Told, failure: EngineError, after: int
) -> None:
    engine.failure, engine.after = failure, after
    service = ServiceChat(str(client.base_url).rstrip("/"))
    with pytest.raises(type(failure), match=failure.message) as raised:
        await said_by(service)
    assert type(raised.value) is type(failure)
    if isinstance(failure, EngineFull) and after == 0:
        assert raised.value.retry_after == 3
    await service.aclose()


async def test_a_reply_whose_line_breaks_is_an_error(client: httpx.AsyncClient, engine: Told) -> None:
    async with relay(str(client.base_url).rstrip("/")) as line:
        service = ServiceChat(line.url)
        engine.go.clear()
        reply = service.reply(HELLO)
        await anext(reply)
        line.cut()
        with pytest.raises(EngineUnavailable, match="--services chat"):
            await anext(reply)
        engine.go.set()
        assert await said_by(service) == ["a ", "b ", "c"]
        await service.aclose()


async def test_a_missing_service_is_named_with_its_command(unused_tcp_port: int) -> None:
    service = ServiceChat(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(EngineUnavailable, match=r"python launcher\.py --services chat"):
        await service.start()
    with pytest.raises(EngineUnavailable, match=r"python launcher\.py --services chat"):
        await said_by(service)
    await service.aclose()


async def test_a_wrong_key_is_named(make_settings: Make, engine: Told) -> None:
    async with served(chat.create(make_settings(API_KEYS="right"), engine)) as url:
        service = ServiceChat(url, "wrong")
        with pytest.raises(EngineNotConfigured, match="SERVICE_API_KEY"):
            await said_by(service)
        await service.aclose()
