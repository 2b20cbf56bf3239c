"""The engine with a small checkpoint: who is let in, what a cancel frees, and how it goes on when something fails."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder

from engines.tts.xtts import checkpoints, loading
from engines.tts.xtts.batch import Batch, Made
from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.errors import CorruptCheckpoint, MissingCheckpoint, OutOfMemory
from engines.tts.xtts.loading import Loaded, Options, stamp
from engines.tts.xtts.vocoder import SpeechWindow, Vocoder
from engines.tts.xtts.voices import Voices
from engines.tts.xtts.worker import Worker
from engines.tts.xtts.xtts import Xtts
from engines.types import (
    DEFAULT_VOICE,
    SPOKEN_RATE,
    Audio,
    EngineBadInput,
    EngineFull,
    EngineUnavailable,
    Voice,
)
from tests.models import xtts as models

CODES = 8
"""Codes of every piece of text."""

PIECE = "Hello there."
LONG = "Hello there. " + "This is another piece of text that is spoken. " * 4

Make = Callable[..., Xtts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.base(tmp_path_factory.mktemp("checkpoint"), ends_after=CODES)


@pytest.fixture(autouse=True)
def narrow_vocoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocoder with a sixteenth of the channels, since these tests are about who speaks, not how it sounds."""
    read = loading.checkpoint.load

    def with_narrow_vocoder(folder: Path, device: str) -> Checkpoint:
        checkpoint = read(folder, device)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            narrow = HifiDecoder(decoder_input_dim=64, upsample_initial_channel_decoder=32).eval()
        cast(Any, checkpoint.decoder).waveform_decoder = narrow.waveform_decoder
        return checkpoint

    monkeypatch.setattr(loading.checkpoint, "load", with_narrow_vocoder)


@pytest.fixture
async def make(folder: Path, tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Xtts] = []

    def engine(streams: int = 2, checkpoint: Path = folder) -> Xtts:
        made.append(Xtts(checkpoint, Voices(tmp_path / "voices"), Options(device="cpu", streams=streams)))
        return made[-1]

    yield engine
    for one in made:
        await one.aclose()


async def said(engine: Xtts, text: str | AsyncIterator[str] = PIECE, voice: Voice = DEFAULT_VOICE) -> Audio:
    chunks = [chunk async for chunk in engine.speak(text, voice)]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.float32)


def loaded_of(engine: Xtts) -> Loaded:
    (loaded,) = engine._checkpoints.all()
    return loaded


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.01)


def everything_free(engine: Xtts) -> bool:
    batch = loaded_of(engine).worker._batch
    return batch.free == batch._slots and engine.capacity.held == 0


# --- speaking ---


async def test_a_text_becomes_sound_of_its_length(make: Make) -> None:
    engine = make()
    sound = await said(engine)
    assert len(sound) / SPOKEN_RATE == pytest.approx(CODES * 1024 / 22_050, rel=0.2)
    assert sound.dtype == np.float32 and np.isfinite(sound).all()
    assert float(sound.std()) > 1e-4
    assert len(await said(engine, "")) == 0
    await until(lambda: everything_free(engine))


async def test_pieces_of_text_are_spoken_as_they_come(make: Make) -> None:
    engine = make()
    first_heard = asyncio.Event()

    async def written() -> AsyncIterator[str]:
        yield "Hello there. "
        async with asyncio.timeout(60):
            await first_heard.wait()
        yield "And a second sentence for you."

    pieces = []
    async for chunk in engine.speak(written()):
        pieces.append(len(chunk))
        first_heard.set()
    assert sum(pieces) / SPOKEN_RATE > 1.5 * CODES * 1024 / 22_050


async def test_a_faster_voice_takes_less_time(make: Make) -> None:
    engine = make()
    usual, fast, slow = [len(await said(engine, voice=Voice("v", "V", rate=rate))) for rate in (1.0, 1.5, 0.75)]
    assert fast / usual == pytest.approx(1 / 1.5, rel=0.15)
    assert slow / usual == pytest.approx(1 / 0.75, rel=0.15)


async def test_several_speak_at_once_in_one_batch(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    step = Batch.step

    def watched(batch: Batch) -> list[Made]:
        made = step(batch)
        together.append(len(made))
        return made

    monkeypatch.setattr(Batch, "step", watched)
    engine = make(streams=3)
    await engine.start()
    together.clear()
    sounds = await asyncio.gather(*(said(engine) for _ in range(3)))
    assert max(together) == 3
    assert all(len(sound) > 0 for sound in sounds)


async def test_the_next_piece_is_begun_before_the_one_that_is_heard_has_ended(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(streams=1, checkpoint=models.base(tmp_path / "slower", ends_after=30))
    await engine.start()
    together: list[int] = []
    step = Batch.step

    def watched(batch: Batch) -> list[Made]:
        together.append(len(made := step(batch)))
        return made

    monkeypatch.setattr(Batch, "step", watched)
    sound = await said(engine, "Hello there, everybody. This is another piece of text.")
    assert max(together) == 2
    assert sum(together) == 2 * 31, "with the stop codes"
    assert len(sound) / SPOKEN_RATE == pytest.approx(2 * 30 * 1024 / 22_050, rel=0.1)


async def test_speech_that_never_stops_by_itself_is_ended(make: Make, tmp_path: Path) -> None:
    engine = make(checkpoint=models.base(tmp_path / "endless", ends_after=None))
    sound = await said(engine)
    assert 1.0 < len(sound) / SPOKEN_RATE < 10.0
    await until(lambda: everything_free(engine))


# --- who is let in ---


async def test_a_short_piece_that_is_made_before_the_long_one_before_it_is_spoken_too(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []
    sound = Worker._sound

    def listened(self: Worker) -> None:
        ended.extend(one.spoken[-1].ended and not one.spoken[0].ended for one in self._speaking if len(one.spoken) > 1)
        sound(self)

    monkeypatch.setattr(Worker, "_sound", listened)
    endless = models.base(tmp_path / "endless", ends_after=None)
    engine = make(1, endless)
    async with asyncio.timeout(120):
        await said(engine, "This is a sentence that is quite a bit longer than the next one. Goodbye to you.")
    assert any(ended), "the second piece had been made while the first one wasn't"


async def test_when_full_it_refuses_at_once(make: Make) -> None:
    engine = make(streams=1)
    async with aclosing(engine.speak(LONG)) as running:
        await anext(running)
        assert (engine.capacity.held, engine.capacity.limit) == (1, 1)
        before = time.monotonic()
        with pytest.raises(EngineFull) as refused:
            await said(engine)
        assert time.monotonic() - before < 5
        assert refused.value.retry_after is not None and refused.value.retry_after >= 0.5
    assert len(await said(engine)) > 0


async def test_a_machine_too_slow_for_one_says_so_and_measures_again(make: Make) -> None:
    engine = make(streams=0)
    await engine.start()
    cost = loaded_of(engine).worker.cost
    measured = [cost.step_of(1), cost.per_code, cost.per_prompt]
    cost.measured({1: 10.0}, 0.1, 0.1)
    assert engine.capacity.limit == 0
    assert "too slow to speak live" in (await engine.health()).reason
    with pytest.raises(EngineFull, match="XTTS_STREAMS=1"):
        await said(engine)
    await until(lambda: cost.step_of(1) < 1.0)
    assert cost.step_of(1) < 100 * measured[0]


async def test_a_cancelled_reply_is_gone_before_the_next_step(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make(streams=1)
    await engine.start()
    worker = loaded_of(engine).worker
    speech = engine.speak(LONG)
    await anext(speech)
    steps_after: list[bool] = []
    reply = worker._speaking[0].reply
    step = Batch.step

    def watched(batch: Batch) -> list[Made]:
        steps_after.append(reply.cancelled and any(one.reply is reply for one in worker._speaking))
        return step(batch)

    monkeypatch.setattr(Batch, "step", watched)
    await speech.aclose()
    await until(lambda: everything_free(engine))
    # The step that was under way may have begun before the cancel; none began with the reply after it.
    assert sum(steps_after) == 0
    assert len(await said(engine)) > 0


# --- what goes wrong ---


async def test_wrong_input_is_refused_and_harms_nobody(make: Make) -> None:
    engine = make()
    async with aclosing(engine.speak(LONG)) as running:
        await anext(running)
        with pytest.raises(EngineBadInput):
            await anext(engine.speak(PIECE, language="tlh"))
        with pytest.raises(EngineBadInput, match="no speaker"):
            await said(engine, voice=Voice("v", "V", engines={"xtts": "Nobody"}))
        assert len([chunk async for chunk in running]) > 0


async def test_a_text_that_breaks_off_breaks_the_reply_off(make: Make) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "Hello there. "
        raise ConnectionError("the writer is gone")

    engine = make()
    with pytest.raises(ConnectionError):
        await said(engine, broken())
    await until(lambda: everything_free(engine))


async def test_out_of_memory_ends_the_newest_reply_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make(streams=2)
    await engine.start()
    step = Batch.step

    def short_of_memory(batch: Batch) -> list[Made]:
        if batch._slots - batch.free > 1:
            raise OutOfMemory("XTTS has no memory left.")
        return step(batch)

    first = engine.speak(LONG)
    begun = [await anext(first)]
    monkeypatch.setattr(Batch, "step", short_of_memory)
    with pytest.raises(OutOfMemory):
        await said(engine)
    assert loaded_of(engine).worker.streams == 1
    begun += [chunk async for chunk in first]
    whole = sum(map(len, begun)) / SPOKEN_RATE
    assert whole > 3 * CODES * 1024 / 22_050
    await until(lambda: everything_free(engine) and loaded_of(engine).worker.streams == 2)


async def test_a_failed_step_ends_its_replies_and_the_next_one_is_spoken(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make()
    await engine.start()
    step, failures = Batch.step, iter([ValueError("out of tune")])

    def failing(batch: Batch) -> list[Made]:
        for failure in failures:
            raise failure
        return step(batch)

    monkeypatch.setattr(Batch, "step", failing)
    with pytest.raises(EngineUnavailable, match="ValueError"):
        await said(engine)
    assert len(await said(engine)) > 0
    assert (await engine.health()).ok


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_dead_thread_is_noticed_and_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()
    await engine.start()
    dead = loaded_of(engine).worker

    def die(batch: Batch) -> list[Made]:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(Batch, "step", die)
        with pytest.raises(EngineUnavailable, match="thread ended"):
            await said(engine)
        await until(lambda: not dead.alive)
        assert not (await engine.health()).ok
    assert len(await said(engine)) > 0
    assert loaded_of(engine).worker is not dead
    assert (await engine.health()).ok


async def test_a_failing_vocoder_ends_the_reply_that_it_was_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()
    await engine.start()
    other = Voice("other", "Other", engines={"xtts": models.SPEAKERS[1]})
    embedding = loaded_of(engine).checkpoint.speakers[models.SPEAKERS[1]][1]
    decode = Vocoder.decode

    def failing(vocoder: Vocoder, jobs: Sequence[tuple[SpeechWindow, bool]]) -> list[Audio]:
        if [torch.equal(window.speaker, embedding) for window, _ in jobs] == [True]:
            raise MemoryError
        return decode(vocoder, jobs)

    monkeypatch.setattr(Vocoder, "decode", failing)
    async with aclosing(engine.speak(LONG)) as running:
        begun = [await anext(running)]
        with pytest.raises(OutOfMemory):
            await said(engine, LONG, other)
        begun += [chunk async for chunk in running]
    assert sum(map(len, begun)) / SPOKEN_RATE > 3 * CODES * 1024 / 22_050
    await until(lambda: everything_free(engine))


async def test_what_fails_again_and_again_is_loaded_anew(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make()
    await engine.start()
    worker = loaded_of(engine).worker

    def failing(batch: Batch) -> list[Made]:
        raise ValueError

    with monkeypatch.context() as patched:
        patched.setattr(Batch, "step", failing)
        for _ in range(3):
            with pytest.raises(EngineUnavailable):
                await said(engine)
        await until(lambda: not worker.alive)
        assert "3 times in a row" in (await engine.health()).reason
    assert len(await said(engine)) > 0


# --- checkpoints ---


async def test_a_missing_or_damaged_checkpoint_is_named(make: Make, folder: Path, tmp_path: Path) -> None:
    engine = make(checkpoint=tmp_path / "nowhere")
    with pytest.raises(MissingCheckpoint):
        await engine.start()
    assert "nowhere" in (await engine.health()).reason
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    weights = damaged / "model.pth"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(CorruptCheckpoint, match=r"model\.pth"):
        await make(checkpoint=damaged).start()


async def test_a_rewritten_checkpoint_is_taken_in_while_replies_go_on(
    make: Make, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LOOK_EVERY", 0.1)
    mine = shutil.copytree(folder, tmp_path / "mine")
    engine = make(streams=2, checkpoint=mine)
    await engine.start()
    old = loaded_of(engine)
    speech = engine.speak(LONG)
    await anext(speech)
    (mine / "model.pth").write_bytes(b"a copy that has only just begun")
    await until(lambda: old.stamp == stamp(mine))
    models.base(mine, ends_after=2 * CODES, seed=5)
    await until(lambda: engine._checkpoints.ready(mine) is not old)
    assert len(await said(engine)) / SPOKEN_RATE > 1.5 * CODES * 1024 / 22_050
    assert len([chunk async for chunk in speech]) > 0
    await until(lambda: not old.worker.alive)


async def test_a_voice_may_bring_its_own_checkpoint(make: Make, tmp_path: Path) -> None:
    own = models.base(tmp_path / "own", ends_after=2 * CODES, seed=7)
    engine = make()
    usual, other = await asyncio.gather(
        said(engine), said(engine, voice=Voice("own", "Own", engines={"xtts": f"{own}#{models.SPEAKERS[1]}"}))
    )
    assert len(other) > 1.5 * len(usual)
    assert engine.capacity.held == 0
    assert {type(one.worker) for one in engine._checkpoints.all()} == {Worker} and len(engine._checkpoints.all()) == 2
