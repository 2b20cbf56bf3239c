"""One live utterance at a running speech-to-text service.

What is pushed is kept until the end, so that an utterance whose connection breaks is given once more, whole, on a new
one. Messages carry the utterance's number as `id`, which the service repeats: whatever is still on its way from an
utterance that was cancelled on the same socket is told apart by it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from engines import wire
from engines.service_client import SocketPool, text_message
from engines.types import Audio, EngineError, EngineUnavailable, Segment, Transcript

ANSWER_DEADLINE = 30.0
"""Seconds after which a question to the service counts as unanswered."""

SOUND_MESSAGE = wire.LARGEST_MESSAGE // 4
"""Bytes of sound in a message."""


@dataclass(eq=False)
class _Question:
    """`settle` or `finish` in the order of the pushed sound, and its answer."""

    kind: str
    answer: asyncio.Future[dict[str, Any]]


class ServiceUtterance:
    """A `LiveTranscription` over a pooled socket.

    Args:
        sockets: Where to take a socket from.
        number: Unlike that of any other utterance of this pool.
        language: BCP 47 tag, or None.
        lost: Makes the engine error for a connection that broke off.

    Attributes:
        task: Runs until the utterance is over.
    """

    def __init__(
        self, sockets: SocketPool, number: str, language: str | None, lost: Callable[[Exception], EngineError]
    ) -> None:
        self._sockets = sockets
        self._number = number
        self._language = language
        self._lost = lost
        self._pushed: list[bytes | _Question] = []
        self._sent: deque[_Question] = deque()
        self._more = asyncio.Event()
        self._text = ""
        self._failure: EngineError | None = None
        self._heard = False
        self.task = asyncio.create_task(self._run(), name="utterance at the speech-to-text service")

    def push(self, audio: Audio) -> None:
        """Hand over more speech, 16 kHz."""
        self._add(wire.audio_to_pcm16(audio))

    @property
    def text(self) -> str:
        """The words understood so far."""
        return self._text

    @property
    def failure(self) -> EngineError | None:
        """Why the utterance is lost, or None."""
        return self._failure

    async def settle(self) -> str:
        """The best whole text of all audio pushed so far."""
        return str((await self._ask(wire.SETTLE)).get("text", ""))

    async def finish(self) -> Transcript:
        """End the utterance and give its final text."""
        final = await self._ask(wire.FINISH)
        segments = [Segment(part["start"], part["end"], part["text"]) for part in final.get("segments", ())]
        return Transcript(
            str(final.get("text", "")),
            str(final.get("language", self._language or "")),
            float(final.get("duration", 0.0)),
            segments,
        )

    async def cancel(self) -> None:
        """Drop the utterance and free its place."""
        if not self.task.done() and not self.task.cancelling():
            self.task.cancel()
        await asyncio.wait({self.task})
        self._fail(EngineUnavailable("The utterance was cancelled."))

    def _add(self, item: bytes | _Question) -> None:
        self._pushed.append(item)
        self._more.set()

    async def _ask(self, kind: str) -> dict[str, Any]:
        if self._failure is not None:
            raise self._failure
        if self.task.done():
            raise EngineUnavailable("The utterance is over.")
        question = _Question(kind, asyncio.get_running_loop().create_future())
        self._add(question)
        try:
            async with asyncio.timeout(ANSWER_DEADLINE):
                return await question.answer
        except TimeoutError as error:
            raise self._lost(error) from error

    def _fail(self, error: EngineError) -> None:
        """Answer all open questions, and all further ones, with `error`."""
        self._failure = self._failure or error
        for item in self._pushed:
            if isinstance(item, _Question) and not item.answer.done():
                item.answer.set_exception(error)

    async def _run(self) -> None:
        try:
            fresh = False
            while True:
                socket = await self._sockets.take(fresh=fresh)
                self._heard = False
                try:
                    await self._converse(socket)
                    return
                except ConnectionClosed as error:
                    self._sockets.drop(socket)
                    # A new connection on which nothing came back won't do better a third time.
                    if fresh and not self._heard:
                        raise self._lost(error) from error
                    fresh = True
        except EngineError as error:
            self._fail(error)

    async def _converse(self, socket: ClientConnection) -> None:
        """Give the whole utterance on `socket` until its final text has come."""
        self._sent.clear()
        sending = asyncio.create_task(self._send(socket), name="send speech")
        try:
            while not self._take(wire.read_message(await socket.recv(decode=True))):
                pass
        except asyncio.CancelledError:
            sending.cancel()
            await asyncio.wait({sending})
            # A service that hasn't said a word may be frozen or gone: the next utterance finds out by connecting.
            if await self._sockets.called_off(socket) and self._heard:
                self._sockets.give_back(socket)
            else:
                self._sockets.drop(socket)
            raise
        except EngineError:
            self._sockets.drop(socket)
            raise
        else:
            self._sockets.give_back(socket)
        finally:
            sending.cancel()

    async def _send(self, socket: ClientConnection) -> None:
        """Send the utterance from its start, following what is pushed; a dead socket is noticed by the reader."""
        with contextlib.suppress(ConnectionClosed):
            await socket.send(text_message(type=wire.START, language=self._language, id=self._number))
            position = 0
            while True:
                self._more.clear()
                waiting = self._pushed[position:]
                position += len(waiting)
                sound = bytearray()
                for item in waiting:
                    if isinstance(item, bytes):
                        sound += item
                        continue
                    await _send_sound(socket, sound)
                    sound.clear()
                    if not item.answer.done():
                        self._sent.append(item)
                        await socket.send(text_message(type=item.kind))
                await _send_sound(socket, sound)
                if position == len(self._pushed):
                    await self._more.wait()

    def _take(self, message: dict[str, Any]) -> bool:
        """Take in one message; returns whether the utterance is over.

        Raises:
            EngineError: The service gave the utterance up.
        """
        if message.get("id", self._number) != self._number:
            return False
        self._heard = True
        kind = message.get("type")
        if kind == wire.ERROR:
            raise wire.error_from(str(message.get("code")), str(message.get("message")))
        if kind in (wire.PARTIAL, wire.SETTLED, wire.FINAL):
            self._text = str(message.get("text", ""))
        if kind in (wire.SETTLED, wire.FINAL):
            asked = wire.SETTLE if kind == wire.SETTLED else wire.FINISH
            # Answers come in the order of the questions, also of those that nobody waits for any more.
            while self._sent:
                question = self._sent.popleft()
                if question.kind == asked:
                    if not question.answer.done():
                        question.answer.set_result(message)
                    break
        return kind == wire.FINAL


async def _send_sound(socket: ClientConnection, sound: bytearray) -> None:
    """Send sound in messages that the service takes; an utterance told again is one long piece."""
    for start in range(0, len(sound), SOUND_MESSAGE):
        await socket.send(bytes(sound[start : start + SOUND_MESSAGE]))
