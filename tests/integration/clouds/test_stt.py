"""Groq's Whisper as a recognizer: the vendor's own client against a local server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from engines.fallback import FallbackTranscriber
from engines.stt.groq import GroqTranscriber
from engines.tally import FIELD, LOGGER
from engines.types import HEARD_RATE, EngineError, EngineFull, EngineNotConfigured, EngineUnavailable
from tests.scripted_engines import ScriptedTranscriber
from tests.vendors.openai_style import MODEL, OpenAIStyle, segment
from tests.vendors.trouble import KEY, serving

SECOND = np.full(HEARD_RATE, 0.1, np.float32)


@pytest.fixture
def server() -> OpenAIStyle:
    return OpenAIStyle(segments=[segment(" Good morning."), segment(" How are you?")])


@pytest.fixture
async def engine(server: OpenAIStyle) -> AsyncIterator[GroqTranscriber]:
    async with serving(server.app()) as address, aclosing(GroqTranscriber(KEY, MODEL, address)) as made:
        yield made


async def test_a_recording_becomes_text(engine: GroqTranscriber, server: OpenAIStyle) -> None:
    await engine.start()
    transcript = await engine.transcribe(np.concatenate([SECOND, SECOND]), "en-US")
    assert transcript.text == "Good morning. How are you?"
    assert (transcript.language, transcript.duration, len(transcript.segments)) == ("en", 2.0, 2)
    assert server.heard == [2.0]
    assert server.asked[0] | {"temperature": "0.0"} == {
        "model": MODEL, "language": "en", "response_format": "verbose_json", "temperature": "0.0",
    }  # fmt: skip
    assert engine.info.paid and engine.capacity.held == 0


async def test_no_language_is_the_vendors_to_find(engine: GroqTranscriber, server: OpenAIStyle) -> None:
    assert (await engine.transcribe(SECOND)).language == "english"
    await engine.transcribe(SECOND, "auto")
    assert all("language" not in asked for asked in server.asked)


async def test_next_to_nothing_costs_nothing(engine: GroqTranscriber, server: OpenAIStyle) -> None:
    assert (await engine.transcribe(SECOND[:1000])).text == ""
    assert server.heard == []


async def test_what_whisper_makes_up_is_left_out_and_counted(
    engine: GroqTranscriber, server: OpenAIStyle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    server.segments = [
        segment(" Good morning."),
        segment(" Thanks for watching!", no_speech=0.9, log_probability=-1.2),
        segment(" no no no no no no no", compression=3.0),
        segment(" quietly said", no_speech=0.9),
    ]
    assert (await engine.transcribe(SECOND)).text == "Good morning. quietly said"
    counted = [record.__dict__[FIELD][1]["reason"] for record in caplog.records if record.name == LOGGER]
    assert counted == ["no_speech", "repetition"]


async def test_a_live_utterance_is_asked_for_once_a_pause(engine: GroqTranscriber, server: OpenAIStyle) -> None:
    utterance = engine.stream("en")
    for _ in range(10):
        utterance.push(SECOND[: HEARD_RATE // 10])
    assert utterance.text == ""
    assert await utterance.settle() == "Good morning. How are you?" == utterance.text
    assert await utterance.settle() == "Good morning. How are you?"
    assert server.heard == [1.0]
    utterance.push(SECOND)
    together = await asyncio.gather(utterance.settle(), utterance.finish())
    assert together[0] == together[1].text == "Good morning. How are you?"
    assert server.heard == [1.0, 2.0]
    with pytest.raises(EngineUnavailable, match="open a new one"):
        await utterance.settle()


async def test_a_cancelled_utterance_gives_its_question_up(engine: GroqTranscriber, server: OpenAIStyle) -> None:
    server.trouble.hangs_after = 0
    utterance = engine.stream()
    utterance.push(SECOND)
    settling = asyncio.create_task(utterance.settle())
    async with asyncio.timeout(10):
        while not server.headers:  # noqa: ASYNC110 - the server knows nothing of events
            await asyncio.sleep(0.01)
    await utterance.cancel()
    await utterance.cancel()
    with pytest.raises(EngineUnavailable):
        await settling
    assert engine.capacity.held == 0


async def test_closing_the_engine_ends_its_utterances(engine: GroqTranscriber) -> None:
    utterance = engine.stream()
    utterance.push(SECOND)
    await engine.aclose()
    with pytest.raises(EngineUnavailable):
        await utterance.finish()


@pytest.mark.parametrize(
    ("status", "kind", "fix"),
    [
        (401, EngineNotConfigured, "set GROQ_API_KEY to a valid one"),
        (404, EngineNotConfigured, "knows no model 'a-model'"),
        (400, EngineError, "check GROQ_STT_MODEL and the language"),
        (429, EngineFull, "in 3 s"),
        (500, EngineUnavailable, "try again later"),
    ],
)
async def test_refusals_are_named(
    engine: GroqTranscriber, server: OpenAIStyle, status: int, kind: type[EngineError], fix: str
) -> None:
    server.trouble.status, server.trouble.headers = status, {"Retry-After": "3"}
    with pytest.raises(EngineError) as raised:
        await engine.transcribe(SECOND, "en")
    assert type(raised.value) is kind and fix in raised.value.message and KEY not in raised.value.message
    assert not (await engine.health()).ok


async def test_an_answer_that_is_none(engine: GroqTranscriber, server: OpenAIStyle) -> None:
    server.segments = [{"text": " Good", "start": "soon"}]
    with pytest.raises(EngineError, match="can't be read"):
        await engine.transcribe(SECOND)


@pytest.mark.parametrize("trouble", [{"status": 500}, {"hangs_after": 0}, {"cut_after": 0}])
async def test_an_utterance_goes_on_with_the_next_recognizer(
    engine: GroqTranscriber, server: OpenAIStyle, trouble: dict[str, int]
) -> None:
    for name, value in trouble.items():
        setattr(server.trouble, name, value)
    line = FallbackTranscriber([engine, ScriptedTranscriber(["good evening"])], deadline=1.0)
    utterance = line.stream("en")
    utterance.push(SECOND)
    assert await utterance.settle() == "good evening"
    assert (await utterance.finish()).text == "good evening"
    assert line.serving is not engine
