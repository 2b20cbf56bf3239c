"""What the voices of vendors have in common: text goes out clause by clause as it is written, sound comes in meanwhile.

Each reply has a connection to itself and gives it back at its end, also when it is called off.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Hashable
from contextlib import aclosing

from websockets.exceptions import ConnectionClosed

from engines import wire
from engines.cloud import Checkup, Vendor
from engines.shared_text import SharedText
from engines.tts.clauses import clauses
from engines.tts.vendor_socket import SocketsKept, VendorSocket, connected
from engines.types import DEFAULT_VOICE, Audio, Capacity, EngineError, EngineInfo, Health, Voice


class CloudVoice(ABC):
    """A `Synthesizer` at a vendor that takes text and gives sound over a WebSocket.

    Args:
        info: What it is.
        vendor: Who it is, for messages.
        default_voice: The vendor's voice id where the agent's voice names none.
    """

    def __init__(self, info: EngineInfo, vendor: Vendor, default_voice: str) -> None:
        self.info = info
        self._vendor = vendor
        self._default_voice = default_voice
        self._held = 0
        self._sockets = SocketsKept()
        self._checkup = Checkup(self._vendor, self.ask)

    @property
    def capacity(self) -> Capacity:
        """No limit that is known before it is met."""
        return Capacity(self._held, None)

    @abstractmethod
    async def ask(self) -> None:
        """Ask the vendor whether the key is good, by a call that costs nothing.

        Raises:
            EngineError: It isn't, or the vendor can't be reached.
        """

    @abstractmethod
    async def connect(self, voice: str, language: str) -> VendorSocket:
        """A new connection.

        Raises:
            OSError, TimeoutError, WebSocketException: There is none to be had.
        """

    @abstractmethod
    def purpose(self, voice: str, language: str) -> Hashable:
        """What a connection must have been opened for to serve this voice and language."""

    def status_of(self, code: str, status: int) -> int:
        """The HTTP status that the vendor's error stands for."""
        return status

    async def start(self) -> None:
        """Ask whether the key is good, and connect, so that the first reply doesn't wait for it.

        Raises:
            EngineNotConfigured: The key, voice or model isn't; the message says which setting to change.
            EngineUnavailable: The vendor can't be reached.
        """
        await self._checkup.now()
        voice, language = self._spoken(DEFAULT_VOICE, None)
        if (socket := self._sockets.take(self.purpose(voice, language))) is None:
            socket = await self._connected(voice, language)
        self._sockets.keep(self.purpose(voice, language), socket)

    async def health(self) -> Health:
        """What the last reply showed, or what the vendor says now."""
        return await self._checkup.health()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sockets.aclose()

    def _spoken(self, voice: Voice, language: str | None) -> tuple[str, str]:
        """The vendor's voice id, and the language alone: en for en-US."""
        spoken = (language or voice.language).lower().replace("_", "-").split("-")[0]
        return voice.engines.get(self.info.name) or self._default_voice, spoken

    async def _connected(self, voice: str, language: str) -> VendorSocket:
        return await connected(lambda: self.connect(voice, language), self._vendor, self.named(voice), self.status_of)

    def named(self, voice: str) -> str:
        """Model and voice, for a message."""
        return f"model '{self.info.model}' or voice '{voice}'"

    async def speak(
        self, text: str | AsyncIterable[str], voice: Voice = DEFAULT_VOICE, language: str | None = None
    ) -> AsyncGenerator[Audio, None]:
        """Yield 24 kHz chunks; see `Synthesizer.speak`. Closing stops the reply and keeps its connection."""
        id, spoken = self._spoken(voice, language)
        purpose = self.purpose(id, spoken)
        # Read again where a kept connection turns out to be dead.
        shared = None if isinstance(text, str) else SharedText(text)
        begun = False
        self._held += 1
        try:
            while True:
                kept = self._sockets.take(purpose)
                socket = kept or await self._connected(id, spoken)
                socket.begin(id, spoken, voice.rate)
                source = str(text) if shared is None else shared.read()
                try:
                    async with aclosing(self._reply(socket, purpose, source)) as chunks:
                        async for chunk in chunks:
                            begun = True
                            yield chunk
                    self._checkup.served()
                    return
                except ConnectionClosed as error:
                    if kept is None or begun:
                        raise self._ended(error, id) from error
        except EngineError as error:
            if shared is None or error is not shared.failure:
                self._checkup.failed(error)
            raise
        finally:
            self._held -= 1
            if shared is not None:
                await shared.aclose()

    def _ended(self, error: ConnectionClosed, voice: str) -> EngineError:
        """The engine error for a connection that ended in the middle of a reply."""
        code, reason = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (0, "")
        status = self.status_of(reason, {1008: 403, 1011: 500, 1013: 429}.get(code, 0))
        return self._vendor.refused(status, what=self.named(voice)) if status else self._vendor.broke_off()

    async def _reply(
        self, socket: VendorSocket, purpose: Hashable, text: str | AsyncGenerator[str, None]
    ) -> AsyncGenerator[Audio, None]:
        sending = asyncio.create_task(_send(socket, text), name="send text to speak")
        odd = b""
        try:
            while (sound := await _next(socket, sending)) is not None:
                sound = odd + sound
                odd = sound[len(sound) & ~1 :]
                if len(sound) > 1:
                    yield wire.pcm16_to_audio(sound[: len(sound) & ~1])
        finally:
            sending.cancel()
            await asyncio.wait({sending})
            if not sending.cancelled():
                sending.exception()  # looked at: what of it matters was raised
            if socket.owes:
                await self._sockets.stop(purpose, socket)
            else:
                self._sockets.keep(purpose, socket)


async def _send(socket: VendorSocket, text: str | AsyncGenerator[str, None]) -> None:
    """Send a reply's text.

    Raises:
        Exception: What the source of the text raised.
    """
    async with aclosing(clauses(text)) as written:
        async for clause in written:
            await socket.say(clause)
    await socket.finish()


async def _next(socket: VendorSocket, sending: asyncio.Task[None]) -> bytes | None:
    """The next sound, possibly none; None where the reply is over. A text that fails ends it."""
    if sending.done():
        _check(sending)
        return await socket.receive() if socket.owes else None
    receiving = asyncio.create_task(socket.receive(), name="receive speech")
    try:
        await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
        return receiving.result() if receiving.done() else b""
    finally:
        receiving.cancel()
        await asyncio.wait({receiving})


def _check(sending: asyncio.Task[None]) -> None:
    """Raise what ended the sending of a text, unless it was the connection's end: what the vendor said is read first.

    Raises:
        Exception: What the source of the text raised.
    """
    if not isinstance(sending.exception(), ConnectionClosed):
        sending.result()
