"""Ordered recognizers as one: an utterance that one of them loses is given again, from its start, to the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from engines.failover import Attempt, BoundedLine, OnFailure, answering
from engines.types import HEARD_RATE, Audio, EngineError, LiveTranscription, Transcriber, Transcript

T = TypeVar("T")

SETTLE_DEADLINE = 5.0


@runtime_checkable
class TellsFailure(Protocol):
    """A live utterance that knows that it is lost before it is asked for its text."""

    @property
    def failure(self) -> EngineError | None:
        """Why it is lost, or None."""
        ...


class FallbackTranscriber(BoundedLine[Transcriber]):
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
                with answering(attempt.name):
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
            if isinstance(stream, TellsFailure) and stream.failure is not None:
                raise stream.failure
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
                with answering(attempt.name):
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
