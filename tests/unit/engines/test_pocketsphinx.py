"""The embedded recognizer on real speech, in its real processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable

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
    utterance.push(audio)  # and no settling: words come by themselves, however busy the machine is
    async with asyncio.timeout(60):
        while not utterance.text:  # noqa: ASYNC110 - the Protocol tells partial words by asking only
            await asyncio.sleep(0.02)
    await utterance.cancel()
    assert utterance.text.split()[0] in SENTENCES[4].split()


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


async def test_settling_in_the_middle_of_words_tears_none_apart(engine: PocketSphinx) -> None:
    utterance = engine.stream()
    audio = as_heard(SENTENCES[4], "rms")
    for at in range(0, len(audio), 800):
        utterance.push(audio[at : at + 800])
        if at % 4000 == 0:
            await utterance.settle()
    assert word_error_rate(SENTENCES[4], (await utterance.finish()).text) <= 0.25


async def test_a_long_silence_in_front_changes_nothing(engine: PocketSphinx) -> None:
    hiss = np.random.default_rng(1).normal(0, 3e-4, HEARD_RATE * 4).astype(np.float32)
    audio = as_heard(SENTENCES[3], "rms")
    transcript = await engine.transcribe(np.concatenate([hiss, audio]))
    assert word_error_rate(SENTENCES[3], transcript.text) <= 0.2
    assert transcript.segments[0].start == pytest.approx(4.3, abs=0.3)


async def test_a_settling_given_up_or_asked_twice_leaves_nothing_stale(engine: PocketSphinx) -> None:
    utterance = engine.stream()
    utterance.push(as_heard(SENTENCES[0], "rms"))
    given_up = asyncio.create_task(utterance.settle())
    await asyncio.sleep(0)
    given_up.cancel()
    first, second = await asyncio.gather(utterance.settle(), utterance.settle())
    assert first == second == SENTENCES[0]
    assert (await utterance.finish()).text == SENTENCES[0]


async def test_the_event_loop_runs_on_while_words_are_searched(engine: PocketSphinx) -> None:
    recording = asyncio.create_task(engine.transcribe(as_heard(SENTENCES[4], "awb")))
    turns = 0
    while not recording.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert turns > 10
    assert recording.result().text


def listeners() -> list[psutil.Process]:
    """The processes that decode an utterance each."""
    return [child for worker in psutil.Process().children() for child in worker.children()]


async def eventually(found: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
    for wait in itertools.repeat(0.02):
        if processes := found():
            return processes
        await asyncio.sleep(wait)
    raise AssertionError


async def test_an_utterance_whose_process_dies_ends_alone(engine: PocketSphinx) -> None:
    ill = engine.stream()
    ill.push(as_heard(SENTENCES[0], "rms"))
    found = await eventually(listeners)
    well = engine.stream()
    well.push(as_heard(SENTENCES[6], "rms"))
    answer = asyncio.create_task(ill.settle())
    await asyncio.sleep(0)
    os.kill(found[0].pid, signal.SIGKILL)
    with pytest.raises(EngineUnavailable):
        await answer
    assert engine.capacity.held == 1
    assert (await well.finish()).text == SENTENCES[6]


async def test_a_dead_worker_is_started_again_and_its_utterances_go_on(engine: PocketSphinx) -> None:
    utterance = engine.stream()
    utterance.push(as_heard(SENTENCES[6], "rms"))
    await eventually(listeners)
    (worker,) = psutil.Process().children()
    os.kill(worker.pid, signal.SIGKILL)
    assert (await utterance.finish()).text == SENTENCES[6]
    await eventually(lambda: [new for new in psutil.Process().children() if new != worker])
    await engine.start()
    assert (await engine.health()).ok
    assert await settled(engine, as_heard(SENTENCES[6], "rms")) == SENTENCES[6]


async def test_a_cancelled_utterance_leaves_no_process_behind(engine: PocketSphinx) -> None:
    utterance = engine.stream()
    utterance.push(np.tile(as_heard(SENTENCES[4], "rms"), 10))
    found = await eventually(listeners)
    await utterance.cancel()
    await eventually(lambda: [] if listeners() else found)
    with pytest.raises(EngineUnavailable, match="over"):
        await utterance.settle()


async def test_a_closed_engine_ends_what_it_holds_and_takes_nothing_more() -> None:
    engine = PocketSphinx(processes=1)
    await engine.start()
    utterance = engine.stream()
    utterance.push(as_heard(SENTENCES[0], "rms"))
    await engine.aclose()
    await engine.aclose()
    with pytest.raises(EngineUnavailable):
        await utterance.settle()
    with pytest.raises(EngineUnavailable):
        engine.stream()
    assert not (await engine.health()).ok


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
