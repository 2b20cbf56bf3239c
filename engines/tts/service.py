"""A running text-to-speech service as an engine, over its WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from engines import wire
from engines.service_client import ServiceEngine, SocketPool, text_message
from engines.shared_text import SharedText
from engines.types import DEFAULT_VOICE, Audio, Kind, Voice

DRAIN_DEADLINE = 2.0
"""Seconds in which a stopped reply's end must come, for its socket to serve again."""


class ServiceSynthesizer(ServiceEngine):
    """Speech from port 8003; one socket serves many replies in turn."""

    kind: Kind = "tts"

    def __init__(self, url: str, api_key: str = "") -> None:
        super().__init__(url, api_key)
        self._sockets = SocketPool(self.kind, url, wire.TTS_STREAM, self.headers)

    async def start(self) -> None:
        """Ask the service whether it is ready, and connect, so that the first reply doesn't wait for it."""
        await super().start()
        self._sockets.give_back(await self._sockets.take())

    async def aclose(self) -> None:
        """Close all sockets."""
        await self._sockets.aclose()
        await super().aclose()

    async def speak(
        self, text: str | AsyncIterable[str], voice: Voice = DEFAULT_VOICE, language: str | None = None
    ) -> AsyncGenerator[Audio, None]:
        """Yield 24 kHz chunks; see `Synthesizer.speak`. The service knows the voice by its id."""
        self.held += 1
        shared = None if isinstance(text, str) else SharedText(text)
        begun = False
        try:
            for last in (False, True):
                socket = await self._sockets.take(fresh=last)
                try:
                    async with contextlib.aclosing(self._reply(socket, shared or str(text), voice, language)) as chunks:
                        async for chunk in chunks:
                            begun = True
                            yield chunk
                    return
                except ConnectionClosed as error:
                    # A socket may have died in the pool; half a reply isn't begun again.
                    if begun or last:
                        raise self.lost(error) from error
        finally:
            self.held -= 1
            if shared is not None:
                await shared.aclose()

    async def _reply(
        self, socket: ClientConnection, text: str | SharedText, voice: Voice, language: str | None
    ) -> AsyncGenerator[Audio, None]:
        """One reply on one socket, which goes back to the pool at the end of the reply."""
        sending = asyncio.create_task(_send(socket, text, voice, language), name="send text to speak")
        ended = False
        try:
            while True:
                message = await self._receive(socket, sending)
                if isinstance(message, bytes):
                    yield wire.float32_to_audio(message)
                    continue
                fields = wire.read_message(message)
                if fields.get("type") == wire.SPEECH_END:
                    ended = True
                    return
                if fields.get("type") == wire.ERROR:
                    raise wire.error_from(str(fields.get("code")), str(fields.get("message")))
        finally:
            sending.cancel()
            await asyncio.wait({sending})
            if ended:
                self._sockets.give_back(socket)
            else:
                # Its answer is waited for aside.
                if await self._sockets.called_off(socket):
                    self._sockets.aside(self._drain(socket))
                else:
                    self._sockets.drop(socket)

    async def _receive(self, socket: ClientConnection, sending: asyncio.Task[None]) -> str | bytes:
        """The next message, unless the text to be spoken fails first."""
        if sending.done():
            sending.result()
            return await socket.recv()
        receiving = asyncio.create_task(socket.recv(), name="receive speech")
        try:
            await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            return await receiving
        finally:
            receiving.cancel()

    async def _drain(self, socket: ClientConnection) -> None:
        """Read a stopped reply to its end, then keep the socket, or close it where the end doesn't come."""
        try:
            async with asyncio.timeout(DRAIN_DEADLINE):
                while True:
                    message = await socket.recv()
                    if isinstance(message, str) and wire.read_message(message).get("type") == wire.SPEECH_END:
                        break
        except (TimeoutError, ConnectionClosed):
            self._sockets.drop(socket)
        else:
            self._sockets.give_back(socket)


async def _send(socket: ClientConnection, text: str | SharedText, voice: Voice, language: str | None) -> None:
    """Send a reply's text.

    Raises:
        Exception: What the source of the text raised.
    """
    if isinstance(text, str):
        await socket.send(text_message(text=text, voice=voice.id, language=language))
        return
    async for piece in text.read():
        await socket.send(text_message(text=piece, voice=voice.id, language=language, more=True))
    await socket.send(text_message(text="", voice=voice.id, language=language))
