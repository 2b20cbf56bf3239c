"""The embedded recognizer on real speech, in its real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import numpy as np
import psutil
import pytest

from engines.stt.pocketsphinx import PocketSphinx
from engines.types import HEARD_RATE, Audio, EngineBadInput, EngineFull, EngineUnavailable
from tests.speech import spoken, word_error_rate

SENTENCES = (
    "what time is it now",
    "my favorite color is green",
    "where is the train station",
    "thank you very much that was great",
    "we went to the market and bought some apples",
    "turn on the light in the kitchen",
    "good morning",
    "how far is it to the next town",
)


@pytest.fixture
async def engine() -> AsyncIterator[PocketSphinx]:
    made = PocketSphinx(processes=1, utterances=3)
    await made.start()
    yield made
    await made.aclose()


def as_heard(sentence: str, voice: str) -> Audio:
    """A sentence with the silence around it that the ear hands over."""
    quiet = np.zeros(int(0.3 * HEARD_RATE), np.float32)
    return np.concatenate([quiet, spoken(sentence, voice), quiet[: len(quiet) // 3]])


async def settled(engine: PocketSphinx, audio: Audio, chunk: float = 0.03) -> str:
    utterance = engine.stream("en")
    size = int(chunk * HEARD_RATE)
    for at in range(0, len(audio), size):
        utterance.push(audio[at : at + size])
        await asyncio.sleep(0)
    text = await utterance.settle()
    assert (await utterance.finish()).text == text
    return text


@pytest.mark.parametrize("voice", ["awb", "rms", "kal16"])
async def test_everyday_sentences_are_understood(engine: PocketSphinx, voice: str) -> None:
    reference = " ".join(SENTENCES)
    heard = " ".join([await settled(engine, as_heard(sentence, voice)) for sentence in SENTENCES])
    assert word_error_rate(reference, heard) <= 0.1


async def test_words_appear_while_speech_goes_on(engine: PocketSphinx) -> None:
    utterance = engine.stream()
    audio = as_heard(SENTENCES[4], "rms")
    seen = set()
    for at in range(0, len(audio), 1024):
        utterance.push(audio[at : at + 1024])
        await asyncio.sleep(0.01)
        seen.add(utterance.text)
    await utterance.cancel()
    assert len(seen) > 3


async def test_speech_after_settling_belongs_to_the_same_utterance(engine: PocketSphinx) -> None:
    utterance = engine.stream()
    utterance.push(as_heard(SENTENCES[0], "rms"))
    first = await utterance.settle()
    utterance.push(as_heard(SENTENCES[1], "rms"))
    whole = await utterance.settle()
    transcript = await utterance.finish()
    assert whole == transcript.text
    assert whole.startswith(first)
    assert word_error_rate(f"{SENTENCES[0]} {SENTENCES[1]}", whole) <= 0.1
    assert [segment.text for segment in transcript.segments] == [first, whole.removeprefix(first).strip()]
    assert 0 < transcript.segments[0].start < transcript.segments[0].end <= transcript.segments[1].start


async def test_what_is_understood_does_not_hang_on_who_spoke_before(engine: PocketSphinx) -> None:
    audio = as_heard(SENTENCES[2], "awb")
    fresh = await settled(engine, audio)
    for loudness in (0.05, 3.0):
        await settled(engine, as_heard(SENTENCES[4], "kal16") * np.float32(loudness))
        assert await settled(engine, audio) == fresh


async def test_silence_holds_no_words(engine: PocketSphinx) -> None:
    assert (await engine.transcribe(np.zeros(HEARD_RATE * 2, np.float32))).text == ""
    assert (await engine.transcribe(np.zeros(0, np.float32))).text == ""


async def test_a_long_recording_is_transcribed_beside_live_speech(engine: PocketSphinx) -> None:
    long = np.concatenate([as_heard(sentence, "rms") for sentence in SENTENCES * 2])
    recording = asyncio.create_task(engine.transcribe(long))
    await asyncio.sleep(0.1)
    assert word_error_rate(SENTENCES[0], await settled(engine, as_heard(SENTENCES[0], "rms"))) <= 0.2
    assert not recording.done()
    transcript = await recording
    assert transcript.duration == pytest.approx(len(long) / HEARD_RATE, abs=0.01)
    assert word_error_rate(" ".join(SENTENCES * 2), transcript.text) <= 0.1
    assert len(transcript.segments) > 1


async def test_a_full_engine_refuses_at_once_and_takes_the_next_when_a_place_is_free(engine: PocketSphinx) -> None:
    held = [engine.stream() for _ in range(3)]
    assert (engine.capacity.held, engine.capacity.limit) == (3, 3)
    with pytest.raises(EngineFull):
        engine.stream()
    await held[0].cancel()
    await held[0].cancel()
    last = engine.stream()
    for utterance in (*held[1:], last):
        await utterance.cancel()
    assert engine.capacity.held == 0


async def test_a_dead_process_takes_its_utterances_along_and_is_started_again(engine: PocketSphinx) -> None:
    utterance = engine.stream()
    utterance.push(as_heard(SENTENCES[0], "rms"))
    answer = asyncio.create_task(utterance.settle())
    await asyncio.sleep(0)
    (worker,) = psutil.Process().children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(EngineUnavailable):
        await answer
    assert engine.capacity.held == 0
    await engine.start()
    assert (await engine.health()).ok
    assert await settled(engine, as_heard(SENTENCES[6], "rms")) == SENTENCES[6]


async def test_closing_leaves_no_process_behind() -> None:
    engine = PocketSphinx(processes=2)
    await engine.start()
    workers = psutil.Process().children()
    assert len(workers) == 2
    await engine.aclose()
    assert not any(worker.is_running() for worker in workers)


async def test_another_language_is_refused_with_what_to_do(engine: PocketSphinx) -> None:
    with pytest.raises(EngineBadInput, match="STT=whisper"):
        engine.stream("de")


async def test_an_engine_nobody_started_starts_with_the_first_speech() -> None:
    engine = PocketSphinx(processes=1)
    try:
        assert await settled(engine, as_heard(SENTENCES[6], "rms")) == SENTENCES[6]
    finally:
        await engine.aclose()
