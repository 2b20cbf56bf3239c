"""ElevenLabs and Cartesia as voices: the vendors' own clients against local servers that speak their formats."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import numpy as np
import pytest

from engines.fallback import FallbackSynthesizer
from engines.tts.cartesia import Cartesia
from engines.tts.cloud_voice import CloudVoice
from engines.tts.elevenlabs import ElevenLabs
from engines.types import (
    EngineError,
    EngineFull,
    EngineLate,
    EngineNotConfigured,
    EngineUnavailable,
    Voice,
)
from tests.scripted_engines import ScriptedVoice
from tests.vendors.cartesia import CartesiaServer
from tests.vendors.elevenlabs import ElevenLabsServer
from tests.vendors.spoken import OTHER_VOICE, VOICE, SpeakingServer, seconds
from tests.vendors.trouble import KEY, serving

SAID = "The code is four thousand and two."


class Case:
    """A vendor's server, and the engine that calls it."""

    def __init__(self, server: Any, engine: CloudVoice, again: Callable[..., CloudVoice]) -> None:
        self.server, self.engine, self.again = server, engine, again

    async def spoken(self, text: Any = SAID, voice: Voice | None = None, language: str | None = None) -> float:
        """Seconds of sound."""
        self.server.begin()
        voices = () if voice is None else (voice,)
        chunks = [
            chunk async for chunk in self.engine.speak(text, *voices, **({"language": language} if language else {}))
        ]
        return sum(map(len, chunks)) / 24_000

    async def failure(self, engine: CloudVoice | None = None, voice: Voice | None = None) -> tuple[float, EngineError]:
        """Seconds of sound that came before the error, and the error."""
        self.server.begin()
        came = 0
        with pytest.raises(EngineError) as raised:
            async for chunk in (engine or self.engine).speak(SAID, *(() if voice is None else (voice,))):
                came += len(chunk)
        return came / 24_000, raised.value


@pytest.fixture(params=["elevenlabs", "cartesia"])
async def case(request: pytest.FixtureRequest) -> AsyncIterator[Case]:
    async with AsyncExitStack() as stack:
        eleven = request.param == "elevenlabs"
        server: SpeakingServer = ElevenLabsServer() if eleven else CartesiaServer()
        address = await stack.enter_async_context(serving(server.app()))  # type: ignore[attr-defined]

        def make(key: str = KEY, model: str = server.model, voice: str = VOICE, url: str = address) -> CloudVoice:
            engine = ElevenLabs(key, model, voice, url) if eleven else Cartesia(key, model, voice, url)
            stack.push_async_callback(engine.aclose)
            return engine

        yield Case(server, make(), make)


async def pieces(*texts: str, gates: list[asyncio.Event] | None = None) -> AsyncIterator[str]:
    for number, text in enumerate(texts):
        if gates:
            await gates[number].wait()
        yield text


async def test_a_text_becomes_sound_and_the_connection_is_kept(case: Case) -> None:
    await case.engine.start()
    assert case.server.opened == 1
    chunks = [chunk async for chunk in case.engine.speak(SAID)]
    sound = np.concatenate(chunks)
    assert len(chunks) > 2 and sound.dtype == np.float32
    assert len(sound) / 24_000 == seconds(SAID) and np.all(sound == 0.25)
    assert await case.spoken() == seconds(SAID)
    assert case.server.opened == 1, "both replies went over the connection made at start"
    assert len(set(case.server.contexts)) == 2
    assert case.engine.info.paid and case.engine.capacity.held == 0


async def test_sound_comes_while_the_text_is_still_being_written(case: Case) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    gates[0].set()
    text = pieces("Good morning. How ", "are you? I", " am fine", gates=gates)
    async with aclosing(case.engine.speak(text)) as chunks:
        first = [await anext(chunks), await anext(chunks)]
        assert sum(map(len, first)) / 24_000 == seconds("Good morning.")
        assert [said for _, said in case.server.texts] == ["Good morning. "]
        for gate in gates:
            gate.set()
        rest = [chunk async for chunk in chunks]
    assert sum(map(len, rest)) / 24_000 == pytest.approx(seconds("How are you?", "I am fine"))
    assert [said for _, said in case.server.texts] == ["Good morning. ", "How are you? ", "I am fine "]
    assert len({context for context, _ in case.server.texts}) == 1, "one reply is one context"


async def test_nothing_to_say_asks_for_nothing(case: Case) -> None:
    assert await case.spoken(" ... ") == 0
    assert await case.spoken(pieces("", " ")) == 0
    assert case.server.texts == [] and case.engine.capacity.held == 0
    assert await case.spoken() == seconds(SAID)


async def test_a_stopped_reply_stops_at_once_and_leaves_its_connection_usable(case: Case) -> None:
    case.server.pause = 0.02
    async with aclosing(case.engine.speak(SAID * 30)) as chunks:
        await anext(chunks)
        assert case.engine.capacity.held == 1
        (stopped,) = case.server.contexts
    assert case.engine.capacity.held == 0
    async with asyncio.timeout(10):
        while stopped not in case.server.stopped:  # noqa: ASYNC110 - the server knows nothing of events
            await asyncio.sleep(0.01)
    case.server.pause = 0.0
    assert await case.spoken() == seconds(SAID), "nothing of the stopped reply is heard in the next one"
    assert case.server.opened == 1


async def test_a_reply_cancelled_while_it_waits_for_text_frees_its_connection(case: Case) -> None:
    never = asyncio.Event()
    task = asyncio.create_task(case.spoken(pieces("Hello. And ", "now", gates=[_set(), never])))
    async with asyncio.timeout(10):
        while not case.server.texts:  # noqa: ASYNC110 - the server knows nothing of events
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert case.engine.capacity.held == 0
    assert await case.spoken() == seconds(SAID)
    assert case.server.opened == 1


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def test_replies_at_once_have_a_connection_each(case: Case) -> None:
    case.server.pause = 0.01
    texts = [f"{'very ' * n}good." for n in range(1, 5)]
    assert await asyncio.gather(*(case.spoken(text) for text in texts)) == [seconds(text) for text in texts]
    assert case.server.opened == 4
    await case.spoken()
    assert case.server.opened == 4


async def test_a_voice_of_its_own_a_language_and_a_speed(case: Case) -> None:
    voice = Voice("ada", "Ada", "de-AT", {"elevenlabs": OTHER_VOICE, "cartesia": OTHER_VOICE}, rate=1.1)
    await case.spoken("Hallo.", voice)
    await case.spoken("Bonjour.", voice, "fr-FR")
    asked = str(case.server.requests) + str(case.server.asked)
    assert OTHER_VOICE in asked and VOICE not in asked.replace(OTHER_VOICE, "")
    assert "1.1" in asked
    if isinstance(case.server, ElevenLabsServer):
        assert [request.split("language_code=")[1][:2] for request in case.server.requests] == ["de", "fr"]
    else:
        assert [message["language"] for message in case.server.asked if message["transcript"]] == ["de", "fr"]


async def test_a_speed_beyond_what_the_vendor_takes_is_the_nearest_it_takes(case: Case) -> None:
    await case.spoken("Hi.", Voice("v", "V", rate=3.0))
    asked = str(case.server.asked)
    assert ("1.2" if isinstance(case.server, ElevenLabsServer) else "1.5") in asked and "3.0" not in asked


async def test_connections_that_the_vendor_closed_are_replaced(case: Case) -> None:
    await case.spoken()
    await case.server.drop_all()
    assert await case.spoken(pieces("It works. ", "Still.")) == pytest.approx(seconds("It works.", "Still."))
    assert case.server.opened == 2


REFUSALS = [
    (401, EngineNotConfigured, "API_KEY to a valid one"),
    (402, EngineNotConfigured, "credit"),
    (403, EngineNotConfigured, "doesn't let this key use"),
    (404, EngineNotConfigured, "or voice 'a-voice'; set "),
    (500, EngineUnavailable, "try again later"),
    (503, EngineUnavailable, "try again later"),
]


@pytest.mark.parametrize(("status", "kind", "fix"), REFUSALS)
async def test_each_refusal_is_named_with_its_fix(
    case: Case, caplog: pytest.LogCaptureFixture, status: int, kind: type[EngineError], fix: str
) -> None:
    caplog.set_level(logging.INFO)
    case.server.trouble.status = status
    came, error = await case.failure()
    assert came == 0 and type(error) is kind and fix in error.message and f"says {status}, trouble" in error.message
    health = await case.engine.health()
    assert not health.ok and health.reason == error.message
    with pytest.raises(kind):
        await case.engine.start()
    for private in (SAID, KEY):
        assert private not in error.message + caplog.text
    case.server.trouble.clear()
    assert await case.spoken() == seconds(SAID)
    assert (await case.engine.health()).ok


async def test_too_many_calls_say_when_to_come_back(case: Case) -> None:
    case.server.trouble.status = 429
    case.server.trouble.headers = {"Retry-After": "17"}
    _, error = await case.failure()
    assert type(error) is EngineFull and error.retry_after == 17 and "17 s" in error.message


async def test_a_wrong_key_is_never_shown(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    wrong = case.again(key="a-wrong-key")
    with pytest.raises(EngineNotConfigured, match="API_KEY to a valid one") as raised:
        await wrong.start()
    _, error = await case.failure(wrong)
    assert "API_KEY to a valid one" in error.message
    assert "a-wrong-key" not in error.message + raised.value.message + caplog.text


async def test_a_voice_or_model_that_there_is_not(case: Case) -> None:
    _, error = await case.failure(voice=Voice("v", "V", "en", {"elevenlabs": "nobody", "cartesia": "nobody"}))
    assert isinstance(error, EngineNotConfigured)
    assert "or voice 'nobody'; set " in error.message and "_VOICE" in error.message
    _, error = await case.failure(case.again(model="no-such-model"))
    assert isinstance(error, EngineNotConfigured) and "knows no model 'no-such-model'" in error.message
    assert await case.spoken() == seconds(SAID)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("quota_exceeded", 402, EngineNotConfigured),
        ("too_many_concurrent_requests", 429, EngineFull),
        ("something_new", 500, EngineUnavailable),
    ],
)
async def test_errors_inside_the_connection_are_named_too(
    case: Case, code: str, status: int, kind: type[EngineError]
) -> None:
    case.server.in_stream = (
        {"message": SAID, "error": code, "code": 1008}
        if isinstance(case.server, ElevenLabsServer)
        else {"status_code": status, "error_code": code, "title": "No", "message": SAID}
    )
    _, error = await case.failure()
    assert type(error) is kind and code in error.message and SAID not in error.message
    case.server.in_stream = None
    assert await case.spoken() == seconds(SAID)


async def test_nobody_at_the_address(case: Case) -> None:
    away = case.again(url="http://127.0.0.1:9")
    with pytest.raises(EngineUnavailable, match=r"can't be reached .*_URL"):
        await away.start()
    _, error = await case.failure(away)
    assert isinstance(error, EngineUnavailable) and "can't be reached" in error.message
    assert not (await away.health()).ok


async def test_a_line_cut_in_the_middle_keeps_what_came(case: Case) -> None:
    case.server.trouble.cut_after = 2
    came, error = await case.failure()
    assert 0 < came <= seconds(SAID[:20])
    assert type(error) is EngineUnavailable and "broke off" in error.message
    case.server.trouble.clear()
    assert await case.spoken() == seconds(SAID)


@pytest.mark.parametrize("after", [0, 2])
async def test_a_vendor_that_hangs_is_left_at_the_deadline(case: Case, after: int) -> None:
    await case.engine.start()
    case.server.trouble.hangs_after = after
    line = FallbackSynthesizer([case.engine, ScriptedVoice()], deadline=1.5)
    if after:
        with pytest.raises(EngineLate):
            await _speak(line, pieces("The code is four thousand ", "and two."))
    else:
        assert await _speak(line, pieces(SAID)) > 0
    assert line.serving is not case.engine and case.engine.capacity.held == 0
    assert await _speak(line, pieces(SAID)) > 0


async def test_a_voice_waits_for_text_as_long_as_it_takes(case: Case) -> None:
    await case.engine.start()
    line = FallbackSynthesizer([case.engine, ScriptedVoice()], deadline=1.0)

    async def slowly() -> AsyncIterator[str]:
        yield "First this. "
        await asyncio.sleep(2.0)
        yield "Then that."

    assert await _speak(line, slowly()) == pytest.approx(seconds("First this.", "Then that."))
    assert line.serving is case.engine


async def _speak(line: FallbackSynthesizer, text: Any) -> float:
    return sum([len(chunk) async for chunk in line.speak(text)]) / 24_000


async def test_a_text_that_fails_blames_nobody(case: Case) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "Good morning. "
        raise EngineUnavailable("the chat model is gone")

    with pytest.raises(EngineUnavailable, match="the chat model is gone"):
        await case.spoken(broken())
    assert (await case.engine.health()).ok
    assert await case.spoken() == seconds(SAID)
    assert case.server.opened == 1


async def test_a_key_without_other_rights_is_good() -> None:
    server = ElevenLabsServer()
    async with serving(server.app()) as address, aclosing(ElevenLabs(KEY, server.model, VOICE, address)) as engine:
        server.trouble.status = 401
        server.trouble.body = {"detail": {"status": "missing_permissions", "message": "models_read"}}
        assert (await engine.health()).ok


async def test_a_context_that_ended_early_is_followed_by_another() -> None:
    server = CartesiaServer(impatient=True)
    async with serving(server.app()) as address, aclosing(Cartesia(KEY, server.model, VOICE, address)) as engine:

        async def slowly() -> AsyncIterator[str]:
            for text in ("Good morning. ", "How are you? ", "Well."):
                yield text
                await asyncio.sleep(0.3)

        sound = sum([len(chunk) async for chunk in engine.speak(slowly())]) / 24_000
        assert sound == pytest.approx(seconds("Good morning.", "How are you?", "Well."))
        assert len(server.contexts) == 3 and server.opened == 1
