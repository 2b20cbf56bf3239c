"""Live speech over one WebSocket: many utterances in turn, each started, fed, asked and ended by the client.

`start` may carry an `id`; all answers about that utterance then carry it too, so that a client can tell them from
those about an utterance that it has just cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from prometheus_client import Histogram
from starlette.websockets import WebSocket

from engines import wire
from engines.types import HEARD_RATE, EngineBadInput, EngineError, LiveTranscription, Transcriber
from services.sockets import GONE, TOO_BIG, WRONG_DATA, close_code, connected, count_call, send_json, ws_error

logger = logging.getLogger("voice_node.services")

PARTIAL_EVERY = 0.05
"""Seconds between looks at the words so far."""

MAX_SECONDS = 600.0
"""Longest utterance."""

INTERNAL = 1011


class _Utterance:
    """One utterance of the client's and the questions about it that are still to be answered."""

    def __init__(self, stream: LiveTranscription, id: str | None) -> None:
        self.stream = stream
        self.tag = {} if id is None else {"id": id}
        self.carried = b""
        self.seconds = 0.0
        self.finishing = False
        self.questions: asyncio.Queue[str] = asyncio.Queue()
        self.tasks: list[asyncio.Task[None]] = []

    def push(self, data: bytes) -> None:
        """Take in 16-bit PCM of any length; half a sample waits for its other half."""
        data = self.carried + data
        whole = len(data) - len(data) % 2
        self.carried = data[whole:]
        if whole:
            self.seconds += whole / 2 / HEARD_RATE
            self.stream.push(wire.pcm16_to_audio(data[:whole]))


class SpeechSocket:
    """One client's connection.

    Args:
        ws: Accepted.
        engine: Transcribes.
        seconds: Told how long settling and finishing took.
    """

    def __init__(self, ws: WebSocket, engine: Transcriber, seconds: Histogram) -> None:
        self._ws = ws
        self._engine = engine
        self._seconds = seconds
        self._utterance: _Utterance | None = None
        self._begun = False
        self._complained = False

    async def run(self) -> None:
        """Serve the client until it leaves or is closed."""
        try:
            while connected(self._ws):
                message = await self._ws.receive()
                if message["type"] != "websocket.receive":
                    return
                if (data := message.get("bytes")) is not None:
                    await self._sound(data)
                else:
                    await self._command(message.get("text") or "")
        except (*GONE, TimeoutError):
            return
        finally:
            await self._drop()

    async def _sound(self, data: bytes) -> None:
        utterance = self._utterance
        if utterance is None:
            if not self._complained:
                self._complained = True
                close = None if self._begun else WRONG_DATA
                await ws_error(self._ws, "bad_request", 'Sound came before {"type": "start"}.', close)
            return
        if utterance.finishing:
            return
        utterance.push(data)
        if utterance.seconds > MAX_SECONDS:
            message = f"An utterance lasts {MAX_SECONDS:g} s at most; finish it and start the next one."
            await ws_error(self._ws, "too_big", message, TOO_BIG)

    async def _command(self, text: str) -> None:
        try:
            fields = wire.read_message(text)
        except EngineBadInput as error:
            await ws_error(self._ws, "bad_request", error.message, WRONG_DATA)
            return
        kind = fields.get("type")
        if not self._begun and kind != wire.START:
            await ws_error(self._ws, "bad_request", 'The first message is {"type": "start"}.', WRONG_DATA)
        elif kind == wire.START:
            await self._start(fields)
        elif kind == wire.CANCEL:
            await self._drop()
        elif kind in (wire.SETTLE, wire.FINISH):
            await self._asked(kind)
        else:
            await ws_error(self._ws, "bad_request", "type: start, settle, finish or cancel.", WRONG_DATA)

    async def _start(self, fields: dict[str, Any]) -> None:
        language, id = fields.get("language"), fields.get("id")
        if not isinstance(language, str | None) or not isinstance(id, str | None):
            await ws_error(self._ws, "bad_request", "language and id are strings.", WRONG_DATA)
            return
        if self._utterance is not None:
            await self._tell("bad_request", "Finish or cancel the utterance before starting the next one.", {})
            return
        if not await count_call(self._ws):
            return
        self._begun = True
        self._complained = False
        try:
            stream = self._engine.stream(language or None)
        except EngineError as error:
            tag = {} if id is None else {"id": id}
            await self._tell(error.code, error.message, tag)
            if not isinstance(error, EngineBadInput):
                await self._ws.close(close_code(error), error.message.encode()[:123].decode(errors="ignore"))
            return
        self._utterance = utterance = _Utterance(stream, id)
        utterance.tasks = [
            asyncio.create_task(self._answer(utterance), name="answer about an utterance"),
            asyncio.create_task(self._show(utterance), name="show partial text"),
        ]

    async def _asked(self, kind: str) -> None:
        utterance = self._utterance
        if utterance is None or utterance.finishing:
            await self._tell("bad_request", "There is no utterance; start one.", {})
            return
        utterance.finishing = kind == wire.FINISH
        utterance.questions.put_nowait(kind)

    async def _answer(self, utterance: _Utterance) -> None:
        """Answer settle and finish in the order in which they were asked."""
        try:
            while True:
                kind = await utterance.questions.get()
                began = time.perf_counter()
                if kind == wire.SETTLE:
                    text = await utterance.stream.settle()
                    self._seconds.observe(time.perf_counter() - began)
                    await send_json(self._ws, {"type": wire.SETTLED, "text": text, **utterance.tag})
                    continue
                final = await utterance.stream.finish()
                self._seconds.observe(time.perf_counter() - began)
                self._over(utterance)
                parts = [{"start": part.start, "end": part.end, "text": part.text} for part in final.segments]
                answer = {"text": final.text, "language": final.language, "duration": final.duration, "segments": parts}
                await send_json(self._ws, {"type": wire.FINAL, **answer, **utterance.tag})
                return
        except EngineError as error:
            self._over(utterance)
            await utterance.stream.cancel()
            await self._tell(error.code, error.message, utterance.tag)
        except (*GONE, TimeoutError):
            # The reading side notices it too, and ends the connection.
            return
        except Exception:
            logger.exception("utterance failed")
            self._over(utterance)
            await utterance.stream.cancel()
            await ws_error(self._ws, "internal", "Something went wrong inside; start again.", INTERNAL)

    async def _show(self, utterance: _Utterance) -> None:
        """Send the words so far whenever they have changed."""
        shown = ""
        try:
            while True:
                await asyncio.sleep(PARTIAL_EVERY)
                text = utterance.stream.text
                if text != shown:
                    shown = text
                    await send_json(self._ws, {"type": wire.PARTIAL, "text": text, **utterance.tag})
        except (*GONE, TimeoutError):
            return

    def _over(self, utterance: _Utterance) -> None:
        """No more partial text; the next utterance may start."""
        utterance.tasks[1].cancel()
        if self._utterance is utterance:
            self._utterance = None

    async def _drop(self) -> None:
        """Drop the utterance, if there is one, and free its place."""
        utterance, self._utterance = self._utterance, None
        if utterance is None:
            return
        for task in utterance.tasks:
            task.cancel()
        await asyncio.wait(utterance.tasks)
        await utterance.stream.cancel()

    async def _tell(self, code: str, message: str, tag: dict[str, str]) -> None:
        await send_json(self._ws, {"type": wire.ERROR, "code": code, "message": message, **tag})
