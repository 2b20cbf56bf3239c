"""Groq and any OpenAI-compatible server as chat engines: the vendors' own clients against a local server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing

import pytest

from engines.chat.completions import CompletionsChat
from engines.chat.groq import GroqChat
from engines.chat.url import UrlChat
from engines.fallback import FallbackChat
from engines.types import (
    EngineError,
    EngineFull,
    EngineLate,
    EngineNotConfigured,
    EngineUnavailable,
    Message,
)
from tests.scripted_engines import ScriptedChat
from tests.vendors.openai_style import MODEL, OpenAIStyle
from tests.vendors.trouble import KEY, serving

SAID = "my secret is four thousand and two"
QUESTION = [Message("system", "You are Ada."), Message("user", SAID)]


class Case:
    """A vendor's server, and the engine that calls it."""

    def __init__(self, server: OpenAIStyle, engine: CompletionsChat, again: Callable[..., CompletionsChat]) -> None:
        self.server, self.engine, self.again = server, engine, again

    async def said(self, engine: CompletionsChat | None = None) -> str:
        return "".join([piece async for piece in (engine or self.engine).reply(QUESTION)])

    async def failure(self, engine: CompletionsChat | None = None) -> tuple[list[str], EngineError]:
        """What came before the error, and the error."""
        pieces: list[str] = []
        with pytest.raises(EngineError) as raised:
            async for piece in (engine or self.engine).reply(QUESTION):
                pieces.append(piece)  # noqa: PERF401 - what came before the error counts
        return pieces, raised.value


@pytest.fixture(params=["groq", "url"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async with AsyncExitStack() as stack:
        server = OpenAIStyle("/openai/v1" if request.param == "groq" else "/v1")
        address = await stack.enter_async_context(serving(server.app()))

        def make(model: str = MODEL, key: str = KEY, url: str = address) -> CompletionsChat:
            engine: CompletionsChat
            engine = GroqChat(key, model, url) if request.param == "groq" else UrlChat(url + "/v1", model, key)
            stack.push_async_callback(engine.aclose)
            return engine

        yield Case(server, make(), make)


async def test_a_reply_comes_piece_by_piece_and_connections_are_kept(case: Case) -> None:
    await case.engine.start()
    assert [piece async for piece in case.engine.reply(QUESTION)] == ["It ", "is ", "noon."]
    assert await case.said() == "It is noon."
    assert len(case.server.connections) == 1
    assert case.server.asked[0]["messages"] == [
        {"role": "system", "content": "You are Ada."},
        {"role": "user", "content": SAID},
    ]
    assert case.engine.info.paid and case.engine.info.model == MODEL
    assert case.engine.capacity.held == 0


async def test_hints_are_passed_on_and_the_conversation_is_not(case: Case) -> None:
    reply = case.engine.reply(QUESTION, conversation="anna@example.org", max_tokens=7, temperature=0.5)
    assert "".join([piece async for piece in reply]) == "It is noon."
    asked = case.server.asked[0]
    assert asked.get("max_tokens", asked.get("max_completion_tokens")) == 7 and asked["temperature"] == 0.5
    assert "anna" not in str(asked) + str(case.server.headers)


async def test_closing_a_reply_stops_the_server(case: Case) -> None:
    case.server.words = ("word ",) * 1000
    case.server.pause = 0.01
    async with aclosing(case.engine.reply(QUESTION)) as pieces:
        await anext(pieces)
        assert case.engine.capacity.held == 1
    assert case.engine.capacity.held == 0
    async with asyncio.timeout(10):
        while case.server.writing:  # noqa: ASYNC110 - the server knows nothing of events
            await asyncio.sleep(0.01)
    assert case.server.written < 100
    case.server.words = ("well",)
    assert await case.said() == "well"


@pytest.mark.parametrize(
    ("status", "kind", "fix"),
    [
        (401, EngineNotConfigured, "API_KEY to a valid one"),
        (402, EngineNotConfigured, "credit"),
        (403, EngineNotConfigured, "doesn't let this key use model 'a-model'"),
        (404, EngineNotConfigured, "knows no model 'a-model'; set "),
        (413, EngineError, "shorter"),
        (400, EngineError, "doesn't take the request"),
        (500, EngineUnavailable, "try again later"),
        (503, EngineUnavailable, "try again later"),
    ],
)
async def test_each_refusal_is_named_with_its_fix_and_without_what_was_said(
    case: Case, caplog: pytest.LogCaptureFixture, status: int, kind: type[EngineError], fix: str
) -> None:
    caplog.set_level(logging.INFO)
    case.server.trouble.status = status
    came, error = await case.failure()
    assert came == [] and type(error) is kind and fix in error.message
    assert f"says {status}, trouble" in error.message
    health = await case.engine.health()
    assert not health.ok and health.reason == error.message
    for private in (SAID, KEY):
        assert private not in error.message + caplog.text
    case.server.trouble.clear()
    assert await case.said() == "It is noon."
    assert (await case.engine.health()).ok


async def test_too_many_calls_say_when_to_come_back(case: Case) -> None:
    case.server.trouble.status = 429
    case.server.trouble.headers = {"Retry-After": "17"}
    _, error = await case.failure()
    assert type(error) is EngineFull and error.retry_after == 17 and "17 s" in error.message


async def test_a_wrong_key_is_found_at_start_and_never_shown(case: Case) -> None:
    wrong = case.again(key="a-wrong-key")
    for failing in (wrong.start(), case.failure(wrong)):
        try:
            result = await failing
        except EngineNotConfigured as error:
            message = error.message
        else:
            assert result is not None
            message = result[1].message
        assert "API_KEY to a valid one" in message and "a-wrong-key" not in message


async def test_a_wrong_model_is_named(case: Case) -> None:
    _, error = await case.failure(case.again(model="no-such-model"))
    assert isinstance(error, EngineNotConfigured)
    assert "knows no model 'no-such-model'" in error.message and "_MODEL" in error.message


async def test_nobody_at_the_address(case: Case) -> None:
    away = case.again(url="http://127.0.0.1:9")
    with pytest.raises(EngineUnavailable, match=r"can't be reached .*_URL"):
        await away.start()
    _, error = await case.failure(away)
    assert isinstance(error, EngineUnavailable)
    assert not (await away.health()).ok


@pytest.mark.parametrize("trouble", ["cut_after", "ends_after", "breaks_after"])
async def test_a_reply_that_breaks_off_keeps_what_came(case: Case, trouble: str) -> None:
    setattr(case.server.trouble, trouble, 2)
    came, error = await case.failure()
    assert "".join(came) in ("It ", "It is ") and came, "what stood in the last packet may go down with a cut line"
    assert isinstance(error, EngineUnavailable)
    assert case.engine.capacity.held == 0
    case.server.trouble.clear()
    assert await case.said() == "It is noon."


@pytest.mark.parametrize("after", [0, 1])
async def test_a_vendor_that_hangs_is_left_at_the_deadline(case: Case, after: int) -> None:
    await case.engine.start()
    case.server.trouble.hangs_after = after
    line = FallbackChat([case.engine, ScriptedChat(lambda _: "well done")], deadline=1.5, next_deadline=1.5)
    if after:
        with pytest.raises(EngineLate):
            assert "".join([piece async for piece in line.reply(QUESTION)]) is None
    else:
        assert "".join([piece async for piece in line.reply(QUESTION)]).strip() == "well done"
    assert line.serving is not case.engine and case.engine.capacity.held == 0
    assert "".join([piece async for piece in line.reply(QUESTION)]).strip() == "well done"


async def test_a_hanging_vendor_doesnt_hang_the_health_page(case: Case) -> None:
    case.server.trouble.hangs_after = 0
    async with asyncio.timeout(5):
        assert not (await case.engine.health()).ok


async def test_health_asks_the_vendor_once_in_a_while_only(case: Case) -> None:
    for _ in range(5):
        assert (await case.engine.health()).ok
    assert len(case.server.headers) == 1


async def test_the_first_model_of_a_server_is_taken_where_none_is_named() -> None:
    server = OpenAIStyle("/v1", key="")
    async with serving(server.app()) as address, aclosing(UrlChat(address + "/v1")) as engine:
        await engine.start()
        assert engine.info.model == MODEL and not engine.info.paid
        assert "".join([piece async for piece in engine.reply(QUESTION)]) == "It is noon."
    assert {headers["authorization"] for headers in server.headers} == {"Bearer none"}


async def test_a_server_without_a_model_says_so() -> None:
    server = OpenAIStyle("/v1", key="", models=())
    async with serving(server.app()) as address, aclosing(UrlChat(address + "/v1")) as engine:
        with pytest.raises(EngineNotConfigured, match="lists no model; load one there, or set CHAT_URL_MODEL"):
            await engine.start()


async def test_nothing_of_the_environment_goes_to_a_server_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "private-to-another")
    server = OpenAIStyle("/v1", key="")
    async with serving(server.app()) as address, aclosing(UrlChat(address + "/v1", MODEL)) as engine:
        assert "".join([piece async for piece in engine.reply(QUESTION)]) == "It is noon."
    assert "private-to-another" not in str(server.headers)
    assert server.asked


async def test_a_password_in_the_address_isnt_shown() -> None:
    engine = UrlChat("http://ada:hush@127.0.0.1:9/v1", MODEL)
    with pytest.raises(EngineUnavailable) as raised:
        await engine.start()
    assert "hush" not in raised.value.message + str(engine.info)
