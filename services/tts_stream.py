"""Speech over one WebSocket: replies are spoken in turn, each from one text or from pieces that follow each other.

Every reply, also one that was cancelled, failed or refused, is followed by exactly one `tts_stream_end`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeAlias

from pydantic import ValidationError
from starlette.websockets import WebSocket

from engines import wire
from engines.types import EngineBadInput, EngineError, Synthesizer, Voice
from library import LibraryError
from services.asked import Asked
from services.errors import as_api_error
from services.part import Part
from services.sockets import FULL, GONE, WRONG_DATA, connected, count_call, send_bytes, send_json, ws_error

logger = logging.getLogger("voice_node.services")

MAX_WAITING = 64
"""Replies that may wait on one socket."""

LONGEST_TEXT = 100_000
"""Characters of one reply."""

MORE_DEADLINE = 60.0
"""Seconds that a reply waits for its next piece of text."""

FindVoice: TypeAlias = Callable[[str | None, str | None], Awaitable[tuple[Voice, str | None]]]
"""From voice id and personality id: the voice, and the language where the personality names one."""


_Failure: TypeAlias = tuple[str, str]
"""Code and message of an error."""


class SpeakMessage(Asked):
    """What a client sends to have something spoken."""

    text: str
    personality: str | None = None
    voice: str | None = None
    language: str | None = None
    more: bool = False


class _Reply:
    """One reply: what its first message said, and its text as it arrives."""

    def __init__(self, first: SpeakMessage | None, failure: _Failure | None = None) -> None:
        self.first = first
        self.failure = failure
        self.length = 0
        self.cancelled = False
        self.ended = False
        self.task: asyncio.Task[None] | None = None
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()

    def add(self, text: str, *, more: bool) -> None:
        """Add a piece of text; without `more` it is the last."""
        self.length += len(text)
        self._pieces.put_nowait(text)
        if not more:
            self._pieces.put_nowait(None)

    def text(self) -> str | AsyncGenerator[str, None]:
        """The whole text where it is there already, else its pieces."""
        if self.first is not None and not self.first.more:
            return self.first.text
        return self._arriving()

    async def _arriving(self) -> AsyncGenerator[str, None]:
        while True:
            try:
                async with asyncio.timeout(MORE_DEADLINE):
                    piece = await self._pieces.get()
            except TimeoutError as error:
                raise EngineBadInput(f"The rest of the text didn't come within {MORE_DEADLINE:g} s.") from error
            if piece is None:
                return
            yield piece


class ReplySocket:
    """One client's connection.

    Args:
        ws: Accepted.
        part: The service, for its timing.
        engine: Speaks.
        find_voice: Gives the voice for what a client named.
    """

    def __init__(self, ws: WebSocket, part: Part[Synthesizer], engine: Synthesizer, find_voice: FindVoice) -> None:
        self._ws = ws
        self._part = part
        self._engine = engine
        self._find_voice = find_voice
        self._replies: deque[_Reply] = deque()
        """The reply being spoken, then those that wait."""
        self._open: _Reply | None = None
        self._waiting = asyncio.Event()

    async def run(self) -> None:
        """Serve the client until it leaves or is closed."""
        tasks = [
            asyncio.create_task(self._read(), name="read texts"),
            asyncio.create_task(self._speak_in_turn(), name="speak replies"),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, (*GONE, TimeoutError)):
                raise result

    async def _read(self) -> None:
        while connected(self._ws):
            message = await self._ws.receive()
            if message["type"] != "websocket.receive":
                return
            if (text := message.get("text")) is None:
                await ws_error(self._ws, "bad_request", "Texts to speak are JSON, not binary.", WRONG_DATA)
            else:
                await self._take(text)

    async def _take(self, text: str) -> None:
        try:
            fields = wire.read_message(text)
            if fields.get("type") == wire.CANCEL:
                self._cancel()
                return
            if "type" in fields:
                raise EngineBadInput('type: only "cancel"; a text to speak has none.')
            message = SpeakMessage.model_validate(fields)
        except EngineBadInput as error:
            self._refuse(error.message)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            self._refuse(problems)
        else:
            await self._add(message)

    async def _add(self, message: SpeakMessage) -> None:
        reply = self._open
        if reply is None:
            if len(self._replies) >= MAX_WAITING:
                await ws_error(self._ws, "full", f"{MAX_WAITING} replies wait already; let them be spoken.", FULL)
                return
            if not await count_call(self._ws):
                return
            reply = _Reply(message)
            self._replies.append(reply)
            self._waiting.set()
        if not reply.ended and reply.length + len(message.text) > LONGEST_TEXT:
            self._open = reply
            self._refuse(f"text: one reply has at most {LONGEST_TEXT} characters")
            return
        # What still comes for a reply that has failed in the meantime belongs to it, and is dropped with it.
        if not reply.ended:
            reply.add(message.text, more=message.more)
        self._open = reply if message.more else None

    def _refuse(self, what: str) -> None:
        """Let the reply under way to us fail, or a reply of its own where there is none."""
        failure = ("bad_request", what)
        reply, self._open = self._open, None
        if reply is None or reply.ended:
            self._replies.append(_Reply(None, failure))
            self._waiting.set()
            return
        reply.failure = failure
        if reply.task is not None:
            reply.task.cancel()

    def _cancel(self) -> None:
        """Stop the current reply; between replies there is nothing to stop, and nothing is answered."""
        if self._open is not None and self._open.ended:
            self._open = None
            return
        if not self._replies:
            return
        reply = self._replies[0]
        reply.cancelled = True
        if reply.task is not None:
            reply.task.cancel()
        if self._open is reply:
            self._open = None

    async def _speak_in_turn(self) -> None:
        while True:
            while not self._replies:
                self._waiting.clear()
                await self._waiting.wait()
            reply = self._replies[0]
            if not reply.cancelled and reply.failure is None:
                reply.task = asyncio.create_task(self._speak(reply), name="speak a reply")
                try:
                    await asyncio.wait({reply.task})
                finally:
                    reply.task.cancel()
                    await asyncio.wait({reply.task})
                if not reply.task.cancelled():
                    reply.task.result()
            if reply.failure is not None and not reply.cancelled:
                await ws_error(self._ws, *reply.failure)
            await send_json(self._ws, {"type": wire.SPEECH_END})
            reply.ended = True
            self._replies.popleft()

    async def _speak(self, reply: _Reply) -> None:
        assert reply.first is not None
        try:
            # Looked up to its end, also for a reply that is called off meanwhile: it takes milliseconds, and a database
            # connection that is cancelled while it is being closed for an earlier cancellation is left lying.
            finding = self._find_voice(reply.first.voice, reply.first.personality)
            voice, language = await asyncio.shield(finding)
            speech = self._engine.speak(reply.text(), voice, reply.first.language or language)
            async with aclosing(self._part.timed(speech)) as chunks:
                async for chunk in chunks:
                    if len(chunk):
                        await send_bytes(self._ws, wire.audio_to_float32(chunk))
        except EngineError as error:
            reply.failure = ("bad_request" if isinstance(error, EngineBadInput) else error.code, error.message)
        except (*GONE, TimeoutError):
            raise
        except LibraryError as error:
            reply.failure = ("unavailable", str(error))
        except Exception as error:
            answer = as_api_error(error)
            if answer.code == "internal":
                logger.exception("reply failed")
            reply.failure = (answer.code, answer.message)
