"""One utterance at the embedded recognizer, over the socket to the process that decodes it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import cast

import numpy as np

from engines.stt.pocketsphinx_process import WorkerProcess
from engines.stt.pocketsphinx_wire import Frames, Op, packed
from engines.types import Audio, EngineUnavailable, Segment, Transcript

_LOST = "the embedded recognizer lost the utterance (its process ended); say it again"


class PocketSphinxUtterance(asyncio.Protocol):
    """A `LiveTranscription`; it holds a place of its worker until it is finished or cancelled.

    Args:
        worker: Who decodes it.
        live: Whether somebody is speaking; recordings let live speech go first.

    Raises:
        EngineUnavailable: The worker doesn't take it.
    """

    def __init__(self, worker: WorkerProcess, *, live: bool = True) -> None:
        self._text = ""
        self._settled = Transcript("", "en")
        self._pushed = self._settled_with = 0
        """Pushes so far, and how many of them `_settled` was made of."""
        self._failure: EngineUnavailable | None = None
        self._closed = False
        self._waiting: deque[tuple[int, asyncio.Future[Transcript]]] = deque()
        self._unsent: list[bytes] = []
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._worker = worker
        line = worker.open(live)
        worker.holds.add(self._lose)
        loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(loop.create_connection(lambda: self, sock=line))

    def push(self, audio: Audio) -> None:
        """Hand over more speech, 16 kHz; returns at once."""
        if self._closed or not len(audio):
            return
        self._pushed += 1
        self._send(Op.PUSH, (np.clip(audio, -1.0, 1.0) * 32767).astype("<i2").tobytes())

    @property
    def text(self) -> str:
        """The words understood so far; may still change."""
        return self._text

    async def settle(self) -> str:
        """The best whole text of all audio pushed so far; at once where nothing was pushed since the last time.

        Raises:
            EngineUnavailable: The process that decoded it died, or the utterance is over.
        """
        self._check()
        return (await self._settle()).text

    async def finish(self) -> Transcript:
        """End the utterance and give its final text.

        Raises:
            EngineUnavailable: The process that decoded it died, or the utterance is over.
        """
        self._check()
        try:
            return await self._settle()
        finally:
            self._close()

    async def _settle(self) -> Transcript:
        """What was settled last where nothing was pushed since, else what the recognizer settles now."""
        if (pushed := self._pushed) == self._settled_with:
            return self._settled
        waiting: asyncio.Future[Transcript] = asyncio.get_running_loop().create_future()
        self._waiting.append((pushed, waiting))
        self._send(Op.SETTLE)
        return await waiting

    async def flowing(self) -> None:
        """Wait while much more was pushed than has been decoded; for recordings, which arrive all at once."""
        await self._flowing.wait()
        self._check()

    async def cancel(self) -> None:
        """Drop the utterance and free its place; idempotent."""
        self._close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open (asyncio calls this): send what was pushed meanwhile."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._closed:
            self._transport.writelines(self._unsent)
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """The recognizer says something (asyncio calls this)."""
        for op, payload in self._frames.feed(data):
            if op is Op.PARTIAL:
                self._text = payload.decode()
            elif op is Op.SETTLED and self._waiting:
                self._settled_with, waiting = self._waiting.popleft()
                self._settled = _transcript(payload)
                self._text = self._settled.text
                if not waiting.done():
                    waiting.set_result(self._settled)

    def connection_lost(self, _: Exception | None) -> None:
        """The socket ended (asyncio calls this)."""
        self._lose()

    def pause_writing(self) -> None:
        """The recognizer is behind (asyncio calls this)."""
        self._flowing.clear()

    def resume_writing(self) -> None:
        """The recognizer has caught up (asyncio calls this)."""
        self._flowing.set()

    def _lose(self) -> None:
        if not self._closed:
            self._failure = EngineUnavailable(_LOST)
            self._close()

    def _send(self, op: Op, payload: bytes = b"") -> None:
        if self._transport is None:
            self._unsent.append(packed(op, payload))
        else:
            self._transport.write(packed(op, payload))

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise EngineUnavailable("the utterance is over; open a new one")

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._worker.holds.discard(self._lose)
        self._flowing.set()
        if self._connecting.done():
            self._hang_up(self._connecting)
        else:
            self._connecting.add_done_callback(self._hang_up)
        for _, waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(self._failure or EngineUnavailable("the utterance was cancelled"))
        self._waiting.clear()

    def _hang_up(self, connecting: asyncio.Task[object]) -> None:
        """End the line. Before it is whole uvloop closes it twice, and the second time hits somebody else's."""
        if not connecting.cancelled() and connecting.exception() is None and self._transport is not None:
            self._transport.abort()


def _transcript(payload: bytes) -> Transcript:
    settled = json.loads(payload)
    parts = [Segment(part["start"], part["end"], part["text"]) for part in settled["parts"]]
    return Transcript(text=settled["text"], language="en", duration=settled["duration"], segments=parts)
