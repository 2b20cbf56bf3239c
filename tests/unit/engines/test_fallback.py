"""Ordered engines: who answers when one fails, hangs or is full, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
import pytest

from engines.fallback import FallbackChat, FallbackSynthesizer, FallbackTranscriber
from engines.types import (
    DEFAULT_VOICE,
    Audio,
    Capacity,
    EngineBadInput,
    EngineError,
    EngineFull,
    EngineInfo,
    EngineLate,
    EngineNotConfigured,
    EngineUnavailable,
    Health,
    Kind,
    LiveTranscription,
    Message,
    Transcript,
    Voice,
)
from engines.watchdog import LOGGER
from tests.virtual_clock import virtual_time

HANG = 1e5
QUESTION = [Message("user", "hello")]
SECOND = np.zeros(16_000, np.float32)


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Fake:
    """An engine whose next calls fail with `error`, or hang, after `after` pieces."""

    name: str
    kind: Kind = "chat"
    error: Exception | None = None
    hang: bool = False
    after: int = 0
    limit: int | None = None
    asked: int = 0
    closed: int = 0
    cancelled: int = 0
    heard: list[int] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(self.kind, self.name, self.name, "cpu", "none")

    @property
    def capacity(self) -> Capacity:
        return Capacity(0, self.limit)

    async def start(self) -> None:
        if self.error:
            raise self.error

    async def health(self) -> Health:
        if self.hang:
            await asyncio.sleep(HANG)
        return Health(self.error is None, str(self.error or ""))

    async def aclose(self) -> None:
        self.closed += 1

    async def _trouble(self) -> None:
        if self.hang:
            await asyncio.sleep(HANG)
        if self.error:
            raise self.error

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        conversation: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncGenerator[str, None]:
        self.asked += 1
        try:
            for n in range(3):
                if n == self.after:
                    await self._trouble()
                yield f"{self.name}{n} "
        finally:
            self.closed += 1

    async def speak(
        self, text: str | AsyncIterable[str], voice: Voice = DEFAULT_VOICE, language: str | None = None
    ) -> AsyncGenerator[Audio, None]:
        self.asked += 1
        try:
            if self.after == 0:
                await self._trouble()
            pieces = [text] if isinstance(text, str) else [piece async for piece in text]
            self.read += pieces
            for n in range(3):
                if n == self.after and n:
                    await self._trouble()
                yield np.full(4, n, np.float32)
        finally:
            self.closed += 1

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        self.asked += 1
        await self._trouble()
        return Transcript(self.name, "en", len(audio) / 16_000)

    def stream(self, language: str | None = None) -> LiveTranscription:
        self.asked += 1
        if isinstance(self.error, EngineFull):
            raise self.error
        return FakeUtterance(self)


@dataclass
class FakeUtterance:
    engine: Fake
    failure: EngineError | None = None

    def push(self, audio: Audio) -> None:
        self.engine.heard.append(len(audio))

    @property
    def text(self) -> str:
        return f"{self.engine.name} {sum(self.engine.heard)}"

    async def settle(self) -> str:
        await self.engine._trouble()
        return self.text

    async def finish(self) -> Transcript:
        await self.engine._trouble()
        return Transcript(self.text, "en", 0.0)

    async def cancel(self) -> None:
        self.engine.cancelled += 1
        if self.engine.hang:
            await asyncio.sleep(HANG)


def chat(*engines: Fake) -> FallbackChat:
    return FallbackChat(engines, clock=now)


async def reply(engine: FallbackChat) -> str:
    return "".join([piece async for piece in engine.reply(QUESTION)])


@virtual_time
async def test_the_first_engine_answers_while_it_is_well() -> None:
    a, b = Fake("a"), Fake("b")
    assert await reply(chat(a, b)) == "a0 a1 a2 "
    assert b.asked == 0


@virtual_time
async def test_a_failing_engine_is_left_within_the_turn() -> None:
    a, b = Fake("a", error=EngineUnavailable("gone")), Fake("b")
    line = chat(a, b)
    assert await reply(line) == "b0 b1 b2 "
    assert line.serving is b
    assert line.info.name == "b"


@virtual_time
async def test_a_failing_engine_is_passed_by_for_longer_each_time_and_tried_again() -> None:
    a, b = Fake("a", error=EngineUnavailable("gone")), Fake("b")
    line = chat(a, b)
    pauses, failed_at = [], 0.0
    for _ in range(9):
        asked = a.asked
        while a.asked == asked:
            await reply(line)
            await asyncio.sleep(0.25)
        pauses.append(now() - 0.25 - failed_at)
        failed_at = now() - 0.25
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    a.error = None
    await asyncio.sleep(60)
    assert await reply(line) == "a0 a1 a2 "
    assert line.serving is a
    a.error = EngineUnavailable("gone again")
    await reply(line)
    await asyncio.sleep(1)
    a.error = None
    assert await reply(line) == "a0 a1 a2 ", "after a success the pause begins at one second again"


@virtual_time
async def test_only_one_call_at_a_time_finds_out_whether_an_engine_is_well_again() -> None:
    a, b = Fake("a", error=EngineUnavailable("gone")), Fake("b")
    line = chat(a, b)
    await reply(line)
    await asyncio.sleep(1)
    a.error, a.hang = None, True
    probe = asyncio.create_task(reply(line))
    await asyncio.sleep(0.5)
    assert await reply(line) == "b0 b1 b2 "
    assert a.asked == 2
    assert await probe == "b0 b1 b2 "


@virtual_time
async def test_failures_of_calls_that_began_together_count_once() -> None:
    a, b = Fake("a", error=EngineUnavailable("gone")), Fake("b")
    line = chat(a, b)
    streams = [line.reply(QUESTION) for _ in range(8)]
    a.hang = True
    firsts = [asyncio.create_task(anext(stream)) for stream in streams]
    await asyncio.gather(*firsts)
    for stream in streams:
        await stream.aclose()
    assert a.asked == 8
    a.hang, a.error = False, None
    await asyncio.sleep(1)
    assert await reply(line) == "a0 a1 a2 "


@virtual_time
async def test_a_hanging_engine_is_left_at_the_deadline() -> None:
    a, b = Fake("a", hang=True), Fake("b")
    assert await reply(chat(a, b)) == "b0 b1 b2 "
    assert now() == 10
    assert a.closed == 1


@virtual_time
async def test_a_full_engine_is_asked_again_after_the_time_it_named() -> None:
    a, b = Fake("a", error=EngineFull("full", retry_after=3)), Fake("b")
    line = chat(a, b)
    assert await reply(line) == "b0 b1 b2 "
    a.error = None
    await asyncio.sleep(2.9)
    assert await reply(line) == "b0 b1 b2 "
    await asyncio.sleep(0.2)
    assert await reply(line) == "a0 a1 a2 "


@virtual_time
async def test_a_reply_that_breaks_off_is_not_finished_by_another_engine() -> None:
    a, b = Fake("a", error=EngineUnavailable("gone"), after=1), Fake("b")
    line = chat(a, b)
    heard = []
    with pytest.raises(EngineUnavailable, match="gone"):
        async for piece in line.reply(QUESTION):
            heard.append(piece)  # noqa: PERF401 (what came before the failure is kept)
    assert heard == ["a0 "]
    assert await reply(line) == "b0 b1 b2 "


@virtual_time
async def test_a_reply_that_stops_coming_is_given_up() -> None:
    a = Fake("a", hang=True, after=2)
    with pytest.raises(EngineUnavailable, match="a did not answer in time"):
        await reply(chat(a, Fake("b")))
    assert now() == 5, "a reply under way has less time for its next piece than a new one for its first"
    assert a.closed == 1


@virtual_time
async def test_an_engine_alone_is_left_at_its_deadline_too_and_asked_again_by_the_next_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a = Fake("a", hang=True)
    line = FallbackChat([a], 4.0, clock=now)
    with pytest.raises(EngineLate, match="a did not answer in time"):
        await reply(line)
    assert now() == 4
    assert a.closed == 1, "its place is free again"
    a.hang = False
    assert await reply(line) == "a0 a1 a2 "
    told = [record.__dict__["watchdog"] for record in caplog.records if record.name == LOGGER]
    assert told == ["engine_deadline"]


@virtual_time
async def test_where_every_engine_fails_and_one_was_late_the_call_was_late() -> None:
    line = FallbackChat([Fake("a", hang=True), Fake("b", error=EngineUnavailable("gone"))], 4.0, clock=now)
    with pytest.raises(EngineLate):
        await reply(line)


@virtual_time
async def test_bad_input_is_nobodys_fault() -> None:
    a, b = Fake("a", error=EngineBadInput("no such language")), Fake("b")
    line = chat(a, b)
    with pytest.raises(EngineBadInput):
        await reply(line)
    assert b.asked == 0
    assert line.serving is a


@virtual_time
async def test_when_none_can_serve_the_error_names_all_and_says_when_to_come_back() -> None:
    line = chat(
        Fake("a", error=EngineFull("a is full.", retry_after=4)), Fake("b", error=EngineUnavailable("b is gone."))
    )
    with pytest.raises(EngineFull, match=r"None of a, b could serve: a is full\. b is gone\.") as raised:
        await reply(line)
    assert raised.value.retry_after == 4


@virtual_time
async def test_engines_put_aside_are_still_the_last_resort() -> None:
    a = Fake("a", error=EngineUnavailable("gone"))
    line = chat(a)
    for _ in range(3):
        with pytest.raises(EngineUnavailable, match="gone"):
            await reply(line)
    a.error = None
    assert await reply(line) == "a0 a1 a2 "


@virtual_time
async def test_an_engine_that_raises_anything_is_left_too() -> None:
    failures: list[tuple[str, str]] = []
    line = chat(Fake("a", error=ZeroDivisionError()), Fake("b"))
    line.on_failure = lambda name, code: failures.append((name, code))
    assert await reply(line) == "b0 b1 b2 "
    assert failures == [("a", "engine_failed")]


@virtual_time
async def test_closing_a_reply_closes_the_engines() -> None:
    a = Fake("a")
    async with aclosing(chat(a).reply(QUESTION)) as pieces:
        await anext(pieces)
    assert a.closed == 1


@virtual_time
async def test_cancelling_a_waiting_reply_stops_the_engine_and_blames_nobody() -> None:
    a, b = Fake("a", hang=True), Fake("b")
    line = chat(a, b)
    task = asyncio.create_task(reply(line))
    await asyncio.sleep(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (a.closed, b.asked) == (1, 0)
    assert line.serving is a


@virtual_time
async def test_capacity_adds_up_and_is_open_where_one_engine_has_no_limit() -> None:
    assert chat(Fake("a", limit=2), Fake("b", limit=3)).capacity == Capacity(0, 5)
    assert chat(Fake("a", limit=2), Fake("b")).capacity == Capacity(0, None)


@virtual_time
async def test_start_and_health_need_one_engine_and_name_the_others() -> None:
    a, b = Fake("a", error=EngineUnavailable("gone")), Fake("b")
    line = chat(a, b)
    await line.start()
    assert line.serving is b
    assert await line.health() == Health(True, "a: gone")
    b.error = EngineNotConfigured("no key")
    assert await line.health() == Health(False, "a: gone; b: no key")
    with pytest.raises(EngineError, match="None of a, b"):
        await line.start()
    a.error, a.hang = None, True
    assert (await line.health()).reason == "a: does not answer; b: no key"
    await line.aclose()
    assert (a.closed, b.closed) == (1, 1)


def test_a_line_without_engines_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FallbackChat([])


# --- speech to text ---


@virtual_time
async def test_the_next_recognizer_hears_the_whole_utterance() -> None:
    a, b = Fake("a", "stt"), Fake("b", "stt")
    stream = FallbackTranscriber([a, b], clock=now).stream("en")
    stream.push(SECOND)
    assert await stream.settle() == "a 16000"
    a.error = EngineUnavailable("gone")
    stream.push(SECOND)
    assert await stream.settle() == "b 32000"
    assert b.heard == [16_000, 16_000]
    stream.push(SECOND)
    assert (await stream.finish()).text == "b 48000"
    await asyncio.sleep(0)
    assert a.cancelled == 1


@virtual_time
async def test_a_recognizer_that_hangs_is_left_at_the_deadline_and_dropped_without_waiting() -> None:
    a, b = Fake("a", "stt", hang=True), Fake("b", "stt")
    stream = FallbackTranscriber([a, b], clock=now).stream()
    stream.push(SECOND)
    assert (await stream.finish()).text == "b 16000"
    assert now() == 5


@virtual_time
async def test_a_full_recognizer_is_passed_by_when_an_utterance_opens() -> None:
    a, b = Fake("a", "stt", error=EngineFull("full")), Fake("b", "stt")
    line = FallbackTranscriber([a, b], clock=now)
    stream = line.stream()
    stream.push(SECOND)
    assert stream.text == "b 16000"
    b.error = EngineFull("full too")
    with pytest.raises(EngineFull):
        line.stream()


@virtual_time
async def test_an_utterance_that_no_recognizer_can_take_says_so_when_asked() -> None:
    a, b = Fake("a", "stt", error=EngineUnavailable("gone")), Fake("b", "stt", error=EngineUnavailable("gone"))
    stream = FallbackTranscriber([a, b], clock=now).stream()
    stream.push(SECOND)
    for _ in range(2):
        with pytest.raises(EngineUnavailable, match="None of a, b"):
            await stream.settle()
    stream.push(SECOND)
    await stream.cancel()


@virtual_time
async def test_a_recognizer_that_knows_that_it_is_lost_is_left_while_the_user_speaks() -> None:
    a, b = Fake("a", "stt"), Fake("b", "stt")
    stream = FallbackTranscriber([a, b], clock=now).stream()
    stream.push(SECOND)
    lost = stream._stream  # type: ignore[attr-defined]
    lost.failure = EngineUnavailable("gone")
    stream.push(SECOND)
    assert stream.text == "b 32000"


@virtual_time
async def test_two_questions_at_once_move_the_utterance_on_once() -> None:
    a, b = Fake("a", "stt", hang=True), Fake("b", "stt")
    stream = FallbackTranscriber([a, b], clock=now).stream()
    stream.push(SECOND)
    settled, final = await asyncio.gather(stream.settle(), stream.finish())
    assert (settled, final.text) == ("b 16000", "b 16000")
    assert b.heard == [16_000]


@virtual_time
async def test_a_cancelled_utterance_frees_the_engine_even_if_that_hangs() -> None:
    a = Fake("a", "stt", hang=True)
    stream = FallbackTranscriber([a], clock=now).stream()
    await stream.cancel()
    assert a.cancelled == 1
    assert now() == 5


@virtual_time
async def test_whole_utterances_go_to_the_next_recognizer() -> None:
    a, b = Fake("a", "stt", hang=True), Fake("b", "stt")
    transcript = await FallbackTranscriber([a, b], clock=now).transcribe(SECOND)
    assert transcript.text == "b"
    assert now() == 6, "the deadline grows with the length of the sound"


# --- text to speech ---


async def sound(line: FallbackSynthesizer, text: str | AsyncIterable[str]) -> int:
    return len([chunk async for chunk in line.speak(text)])


async def written(pieces: Sequence[str], every: float) -> AsyncGenerator[str, None]:
    for piece in pieces:
        await asyncio.sleep(every)
        yield piece


@virtual_time
async def test_the_next_voice_gets_the_text_from_its_beginning() -> None:
    a, b = Fake("a", "tts", error=EngineUnavailable("gone"), after=0), Fake("b", "tts")
    line = FallbackSynthesizer([a, b], clock=now)
    assert await sound(line, written(["Hello ", "there."], 0.1)) == 3
    assert b.read == ["Hello ", "there."]
    assert await sound(line, "Again.") == 3


@virtual_time
async def test_waiting_for_the_text_is_not_the_voices_fault() -> None:
    a = Fake("a", "tts")
    line = FallbackSynthesizer([a, Fake("b", "tts")], clock=now)
    assert await sound(line, written(["Slow ", "thinking."], 30)) == 3
    assert a.read == ["Slow ", "thinking."]
    assert now() == 60


@virtual_time
async def test_a_voice_that_hangs_with_the_text_in_hand_is_left() -> None:
    a, b = Fake("a", "tts", hang=True), Fake("b", "tts")
    line = FallbackSynthesizer([a, b], clock=now)
    assert await sound(line, written(["Hello."], 30)) == 3
    assert b.read == ["Hello."]


@virtual_time
async def test_a_voice_that_breaks_off_is_not_finished_by_another() -> None:
    a, b = Fake("a", "tts", error=EngineUnavailable("gone"), after=1), Fake("b", "tts")
    with pytest.raises(EngineUnavailable, match="gone"):
        await sound(FallbackSynthesizer([a, b], clock=now), "Hello.")
    assert b.asked == 0


@virtual_time
async def test_a_text_that_breaks_off_is_not_the_voices_fault() -> None:
    async def broken() -> AsyncGenerator[str, None]:
        yield "Hello "
        raise LookupError("the chat model fell over")

    a, b = Fake("a", "tts"), Fake("b", "tts")
    line = FallbackSynthesizer([a, b], clock=now)
    with pytest.raises(LookupError, match="fell over"):
        await sound(line, broken())
    assert b.asked == 0
    assert line.serving is a


@virtual_time
async def test_closing_a_voice_early_closes_the_engine_and_the_text() -> None:
    closed = False

    async def endless() -> AsyncGenerator[str, None]:
        nonlocal closed
        try:
            yield "Hello."
            await asyncio.sleep(HANG)
        finally:
            closed = True

    class Eager(Fake):
        async def speak(
            self, text: str | AsyncIterable[str], voice: Voice = DEFAULT_VOICE, language: str | None = None
        ) -> AsyncGenerator[Audio, None]:
            assert not isinstance(text, str)
            try:
                async for _ in text:
                    yield np.zeros(4, np.float32)
            finally:
                self.closed += 1

    a = Eager("a", "tts")
    async with aclosing(FallbackSynthesizer([a], clock=now).speak(endless())) as chunks:
        await anext(chunks)
    assert a.closed == 1
    assert closed
