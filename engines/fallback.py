"""Ordered engines as one: an engine that fails, hangs or is full is left within the same turn.

What was said so far is kept and given to the next engine, as long as nothing of a reply has come out. After the first
piece of a reply a failure is raised: half a reply from one engine doesn't go on in another's words or voice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from engines.failover import Attempt, E, Line, OnFailure
from engines.shared_text import SharedText
from engines.types import (
    DEFAULT_VOICE,
    HEARD_RATE,
    Audio,
    ChatModel,
    EngineError,
    EngineUnavailable,
    LiveTranscription,
    Message,
    Synthesizer,
    Transcriber,
    Transcript,
    Voice,
)

T = TypeVar("T")

SETTLE_DEADLINE = 5.0
FIRST_TOKEN_DEADLINE = 10.0
FIRST_AUDIO_DEADLINE = 5.0


class _Fallback(Line[E]):
    """What the three kinds share: the line of engines and the longest wait for an answer.

    Args:
        engines: In the order of preference.
        deadline: Seconds after which an engine that gives nothing is left.
        clock: Seconds that only grow.
        on_failure: Told each failure, for metrics.
    """

    def __init__(
        self,
        engines: Sequence[E],
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
        on_failure: OnFailure | None = None,
    ) -> None:
        super().__init__(engines, clock, on_failure)
        self.deadline = deadline


@contextmanager
def _answering(name: str) -> Iterator[None]:
    """Say which engine it was when its deadline passes."""
    try:
        yield
    except TimeoutError as error:
        raise EngineUnavailable(f"{name} did not answer in time.") from error


class FallbackTranscriber(_Fallback[Transcriber]):
    """Speech to text by the first of several engines that can.

    The deadline is for settling or finishing an utterance; an engine that takes over gets the length of the
    utterance on top, since it hears all of it at once.
    """

    def __init__(
        self,
        engines: Sequence[Transcriber],
        deadline: float = SETTLE_DEADLINE,
        clock: Callable[[], float] = time.monotonic,
        on_failure: OnFailure | None = None,
    ) -> None:
        super().__init__(engines, deadline, clock, on_failure)
        self._closing: set[asyncio.Task[None]] = set()

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Transcribe a whole utterance; see `Transcriber.transcribe`."""
        deadline = self.deadline + len(audio) / HEARD_RATE
        for attempt in self.attempts():
            try:
                with _answering(attempt.name):
                    async with asyncio.timeout(deadline):
                        transcript = await attempt.engine.transcribe(audio, language)
            except Exception as error:
                attempt.failed(error)
            else:
                attempt.succeeded()
                return transcript
        raise AssertionError("attempts() raises at its end")

    def stream(self, language: str | None = None) -> LiveTranscription:
        """Open a live utterance; see `Transcriber.stream`."""
        return _FallbackUtterance(self, language)

    def let_go(self, stream: LiveTranscription) -> None:
        """Drop an utterance of an engine that has failed, without waiting for it."""
        task = asyncio.create_task(_cancelled(stream, self.deadline), name="drop a lost utterance")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all engines."""
        for task in list(self._closing):
            task.cancel()
        await super().aclose()


async def _cancelled(stream: LiveTranscription, deadline: float) -> None:
    try:
        async with asyncio.timeout(deadline):
            await stream.cancel()
    except TimeoutError:
        return


class _FallbackUtterance:
    """One utterance, given again from its start to the next engine where one loses it."""

    def __init__(self, owner: FallbackTranscriber, language: str | None) -> None:
        self._owner = owner
        self._language = language
        self._attempts = owner.attempts()
        self._kept: list[Audio] = []
        self._kept_samples = 0
        self._text = ""
        self._replayed = 0.0
        self._lost: EngineError | None = None
        self._attempt, self._stream = self._open()

    def _open(self) -> tuple[Attempt[Transcriber], LiveTranscription]:
        for attempt in self._attempts:
            try:
                stream = attempt.engine.stream(self._language)
                for audio in self._kept:
                    stream.push(audio)
            except Exception as error:
                attempt.failed(error)
            else:
                return attempt, stream
        raise AssertionError("attempts() raises at its end")

    def _move_on(self, stream: LiveTranscription, error: Exception) -> None:
        """Go to the next engine, unless another caller of this utterance has done so already."""
        if stream is not self._stream or self._lost is not None:
            return
        self._text = stream.text or self._text
        self._owner.let_go(stream)
        try:
            self._attempt.failed(error)
            self._replayed = self._kept_samples / HEARD_RATE
            self._attempt, self._stream = self._open()
        except EngineError as lost:
            self._lost = lost

    def push(self, audio: Audio) -> None:
        """Hand over more speech; where no engine is left, the next `settle` or `finish` says so."""
        self._kept.append(audio)
        self._kept_samples += len(audio)
        if self._lost is not None:
            return
        stream = self._stream
        try:
            stream.push(audio)
        except Exception as error:
            self._move_on(stream, error)

    @property
    def text(self) -> str:
        """The words so far; those of a lost engine until the next one has some."""
        return self._stream.text or self._text

    async def settle(self) -> str:
        """The best whole text of all audio pushed so far."""
        return await self._ask(lambda stream: stream.settle())

    async def finish(self) -> Transcript:
        """End the utterance and give its final text."""
        return await self._ask(lambda stream: stream.finish())

    async def _ask(self, question: Callable[[LiveTranscription], Coroutine[Any, Any, T]]) -> T:
        while True:
            if self._lost is not None:
                raise self._lost
            attempt, stream = self._attempt, self._stream
            try:
                with _answering(attempt.name):
                    async with asyncio.timeout(self._owner.deadline + self._replayed):
                        answer = await question(stream)
            except Exception as error:
                self._move_on(stream, error)
            else:
                attempt.succeeded()
                return answer

    async def cancel(self) -> None:
        """Drop the utterance."""
        await _cancelled(self._stream, self._owner.deadline)


class FallbackChat(_Fallback[ChatModel]):
    """Replies of the first of several chat models that can; the deadline is for the first and for every next piece."""

    def __init__(
        self,
        engines: Sequence[ChatModel],
        deadline: float = FIRST_TOKEN_DEADLINE,
        clock: Callable[[], float] = time.monotonic,
        on_failure: OnFailure | None = None,
    ) -> None:
        super().__init__(engines, deadline, clock, on_failure)

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        conversation: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield the reply's text; see `ChatModel.reply`."""
        for attempt in self.attempts():
            pieces = attempt.engine.reply(
                messages, conversation=conversation, max_tokens=max_tokens, temperature=temperature
            )
            begun = False
            async with aclosing(pieces):
                try:
                    while True:
                        with _answering(attempt.name):
                            async with asyncio.timeout(self.deadline):
                                piece = await anext(pieces, None)
                        if not begun:
                            attempt.succeeded()
                            begun = True
                        if piece is None:
                            return
                        yield piece
                except Exception as error:
                    problem = attempt.failed(error)
                    if begun:
                        raise problem from error


class FallbackSynthesizer(_Fallback[Synthesizer]):
    """Speech by the first of several voices that can.

    The deadline is for the first and for every next piece of sound; time in which the text itself has yet to be
    written doesn't count.
    """

    def __init__(
        self,
        engines: Sequence[Synthesizer],
        deadline: float = FIRST_AUDIO_DEADLINE,
        clock: Callable[[], float] = time.monotonic,
        on_failure: OnFailure | None = None,
    ) -> None:
        super().__init__(engines, deadline, clock, on_failure)

    async def speak(
        self, text: str | AsyncIterable[str], voice: Voice = DEFAULT_VOICE, language: str | None = None
    ) -> AsyncGenerator[Audio, None]:
        """Yield 24 kHz chunks; see `Synthesizer.speak`."""
        shared = None if isinstance(text, str) else SharedText(text)
        try:
            for attempt in self.attempts():
                source = text if shared is None else shared.read()
                begun = False
                async with aclosing(attempt.engine.speak(source, voice, language)) as chunks:
                    try:
                        while True:
                            with _answering(attempt.name):
                                chunk = await self._next(chunks, shared)
                            if not begun:
                                attempt.succeeded()
                                begun = True
                            if chunk is None:
                                return
                            yield chunk
                    except Exception as error:
                        if shared is not None and shared.failure is not None:
                            # The text broke off, not the voice.
                            raise shared.failure from None
                        problem = attempt.failed(error)
                        if begun:
                            raise problem from error
        finally:
            if shared is not None:
                await shared.aclose()

    async def _next(self, chunks: AsyncGenerator[Audio, None], shared: SharedText | None) -> Audio | None:
        async with asyncio.timeout(None if shared else self.deadline) as limit:
            if shared is not None:
                shared.bound(limit, self.deadline)
            try:
                return await anext(chunks, None)
            finally:
                if shared is not None:
                    shared.release()
