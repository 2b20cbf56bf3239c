"""One live utterance in a worker process of the embedded recognizer."""

from __future__ import annotations

import asyncio
import json
from collections import deque

import numpy as np

from engines.stt.pocketsphinx_process import WorkerProcess
from engines.stt.pocketsphinx_wire import Frame, Op
from engines.types import Audio, EngineError, EngineUnavailable, Segment, Transcript


class PocketSphinxUtterance:
    """A `LiveTranscription`; it holds a place of its worker until it is finished or cancelled."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._text = ""
        self._fresh = True
        """Whether `_text` is the settled text of everything pushed."""
        self._failure: EngineError | None = None
        self._closed = False
        self._answers: dict[Op, deque[asyncio.Future[bytes]]] = {
            Op.SETTLED: deque(),
            Op.FINISHED: deque(),
            Op.ECHO: deque(),
        }
        self._number = worker.open(self._on_frame, self._on_failure)

    def push(self, audio: Audio) -> None:
        """Hand over more speech, 16 kHz; returns at once."""
        if self._closed or not len(audio):
            return
        self._fresh = False
        pcm = (np.clip(audio, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        self._worker.send(Frame(Op.PUSH, self._number, pcm))

    @property
    def text(self) -> str:
        """The words understood so far; may still change."""
        return self._text

    async def settle(self) -> str:
        """The best whole text of all audio pushed so far; at once where nothing was pushed since the last time.

        Raises:
            EngineUnavailable: The worker died.
        """
        if self._fresh and self._failure is None:
            return self._text
        self._fresh = True  # speech pushed while we wait makes it stale again
        self._text = (await self._ask(Op.SETTLE, Op.SETTLED)).decode()
        return self._text

    async def finish(self) -> Transcript:
        """End the utterance and give its final text.

        Raises:
            EngineUnavailable: The worker died.
        """
        try:
            answer = json.loads(await self._ask(Op.FINISH, Op.FINISHED))
        finally:
            self._close()
        self._text = answer["text"]
        return Transcript(
            text=answer["text"],
            language="en",
            duration=answer["duration"],
            segments=[Segment(part["start"], part["end"], part["text"]) for part in answer["segments"]],
        )

    async def decoded(self) -> None:
        """Wait until everything pushed so far has been decoded.

        Raises:
            EngineUnavailable: The worker died.
        """
        await self._ask(Op.ECHO, Op.ECHO)

    async def cancel(self) -> None:
        """Drop the utterance and free its place; idempotent."""
        if not self._closed:
            self._worker.send(Frame(Op.CANCEL, self._number))
            self._close()

    async def _ask(self, question: Op, answer: Op) -> bytes:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise EngineUnavailable("the utterance is over; open a new one")
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[answer].append(waiting)
        self._worker.send(Frame(question, self._number))
        return await waiting

    def _on_frame(self, frame: Frame) -> None:
        if frame.op is Op.PARTIAL:
            self._text = frame.payload.decode()
        elif frame.op is Op.FAILED:
            self._on_failure(EngineUnavailable("the embedded recognizer lost an utterance; say it again"))
        elif (waiting := self._answers[frame.op].popleft()) and not waiting.done():
            waiting.set_result(frame.payload)

    def _on_failure(self, error: EngineError) -> None:
        self._failure = error
        for queue in self._answers.values():
            while queue:
                if not (waiting := queue.popleft()).done():
                    waiting.set_exception(error)
        self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._worker.forget(self._number)
