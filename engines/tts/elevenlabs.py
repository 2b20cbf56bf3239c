"""ElevenLabs' voices: the vendor's own client and message types, over the multi-context WebSocket.

The client's realtime speech (`text_to_speech.convert_realtime`) is not used: it is synchronous, reads the socket only
between two pieces of text, opens one for each reply and can't be called off. Its types of the multi-context WebSocket's
messages are, over the `websockets` package: https://elevenlabs.io/docs/api-reference/text-to-speech/
v-1-text-to-speech-voice-id-multi-stream-input. There the voice stands in the address, and each reply is a context.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.protocol import State

from engines import wire
from engines.cloud import CONNECT_WITHIN, Vendor, code_in, retry_after_in
from engines.tts.cloud_voice import CloudVoice
from engines.tts.elevenlabs_errors import status_of
from engines.tts.vendor_socket import OPTIONS, VendorSocket
from engines.types import CLOUD, SPOKEN_RATE, EngineBadInput, EngineInfo

SLOWEST, FASTEST = 0.7, 1.2
"""What ElevenLabs takes as a speed."""
OPEN_FOR = 180
"""Seconds without a word after which ElevenLabs closes a connection: the most it grants."""


@dataclass(frozen=True, slots=True)
class _Sdk:
    """The vendor's package: its messages' types, its client, and the HTTP client under that."""

    types: Any
    client: Any
    http: httpx.AsyncClient


class ElevenLabs(CloudVoice):
    """Speech by ElevenLabs.

    Args:
        api_key: Of ElevenLabs.
        model: As ElevenLabs names it.
        voice: Voice id where the agent's voice names none.
        url: Where ElevenLabs is reached.
    """

    def __init__(self, api_key: str, model: str, voice: str, url: str) -> None:
        info = EngineInfo("tts", "elevenlabs", model, CLOUD, "ElevenLabs' terms", paid=True)
        vendor = Vendor(
            "ElevenLabs",
            "ELEVENLABS_API_KEY",
            "ELEVENLABS_MODEL and ELEVENLABS_VOICE",
            "ELEVENLABS_URL",
            "elevenlabs.io/app",
        )
        super().__init__(info, vendor, voice)
        self._api_key = api_key
        self._url = url.rstrip("/")
        self._importing: asyncio.Task[_Sdk] | None = None

    async def _sdk(self) -> _Sdk:
        """The package; imported in a thread, since that takes 0.5 s of processor time."""
        if self._importing is None:
            self._importing = asyncio.create_task(asyncio.to_thread(self._imported), name="import a vendor's client")
        return await asyncio.shield(self._importing)

    def _imported(self) -> _Sdk:
        from elevenlabs import types
        from elevenlabs.client import AsyncElevenLabs

        http = httpx.AsyncClient(timeout=CONNECT_WITHIN)
        made = AsyncElevenLabs(api_key=self._api_key, base_url=self._url, httpx_client=http)
        # Parts of the package are imported when first touched: here, off the event loop.
        _ = (made.models, types.InitializeConnectionMulti, types.SendTextMulti, types.CloseContext)
        return _Sdk(types, made, http)

    async def ask(self) -> None:
        """List the models; a key that may speak but not do that is good."""
        from elevenlabs.core.api_error import ApiError

        client = (await self._sdk()).client
        try:
            await client.models.list(request_options={"max_retries": 0})
        except ApiError as error:
            code = code_in(error.body)
            if code == "missing_permissions":
                return
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            raise self._vendor.refused(
                status_of(code, error.status_code or 500), code=code, retry_after=retry_after_in(headers)
            ) from error
        except httpx.HTTPError as error:
            raise self._vendor.unreachable(error) from error
        except ValueError as error:
            raise self._vendor.unreadable() from error

    async def connect(self, voice: str, language: str) -> VendorSocket:
        """A new connection."""
        types = (await self._sdk()).types
        query = {
            "model_id": self.info.model,
            "output_format": f"pcm_{SPOKEN_RATE}",
            "language_code": language,
            "inactivity_timeout": OPEN_FOR,
            # Whole clauses come there: waiting for more of the text would only cost time.
            "auto_mode": "true",
        }
        # http -> ws, https -> wss.
        address = f"ws{self._url.removeprefix('http')}/v1/text-to-speech/{quote(voice, safe='')}/multi-stream-input"
        socket = await connect(
            f"{address}?{urlencode(query)}", additional_headers={"xi-api-key": self._api_key}, **OPTIONS
        )
        return ElevenLabsSocket(socket, types, self._vendor, self.named(voice))

    def purpose(self, voice: str, language: str) -> Hashable:
        """A connection is opened for one voice and one language."""
        return (voice, language)

    def status_of(self, code: str, status: int) -> int:
        """The HTTP status that ElevenLabs' error stands for."""
        return status_of(code, status)

    async def aclose(self) -> None:
        """Close the connections."""
        await super().aclose()
        if self._importing is not None:
            await (await self._importing).http.aclose()


class ElevenLabsSocket:
    """One connection. Each reply is a context of its own; what comes of another one is dropped."""

    def __init__(self, socket: ClientConnection, types: Any, vendor: Vendor, named: str) -> None:
        self._socket = socket
        self._types = types
        self._vendor = vendor
        self._named = named
        self._context = ""
        self._settings: Any = None
        self.owes = False

    @property
    def alive(self) -> bool:
        """Whether it is open."""
        return self._socket.state is State.OPEN

    def begin(self, voice: str, language: str, rate: float) -> None:
        """Begin a new reply."""
        self.owes = False
        self._context = uuid.uuid4().hex
        speed = min(FASTEST, max(SLOWEST, rate))
        self._settings = None if rate == 1.0 else self._types.RealtimeVoiceSettings(speed=speed)

    async def _send(self, message: Any) -> None:
        await self._socket.send(message.model_dump_json(exclude_none=True))

    async def say(self, clause: str) -> None:
        """Send some of the reply's text."""
        if not self.owes:
            self.owes = True
            opening = self._types.InitializeConnectionMulti
            await self._send(opening(text=" ", context_id=self._context, voice_settings=self._settings))
        await self._send(self._types.SendTextMulti(text=f"{clause} ", context_id=self._context, flush=True))

    async def finish(self) -> None:
        """Say that the text is whole; what is still to be spoken is spoken."""
        if self.owes:
            await self._send(self._types.CloseContext(context_id=self._context, close_context=True))

    async def receive(self) -> bytes:
        """The next sound."""
        try:
            message = wire.read_message(str(await self._socket.recv()))
            context = message.get("contextId", message.get("context_id"))
            if context is not None and context != self._context:
                return b""
            if message.get("error"):
                self.owes = False
                code = code_in(message)
                # It may be told in words alone, which are read and not repeated.
                status = status_of(code or f"{message['error']} {message.get('message')}", 500)
                raise self._vendor.refused(status, code=code, what=self._named)
            if message.get("isFinal") or message.get("is_final"):
                self.owes = False
            return base64.b64decode(message.get("audio") or b"")
        except (EngineBadInput, binascii.Error, TypeError) as error:
            raise self._vendor.unreadable() from error

    async def stop(self) -> None:
        """Call the reply off."""
        await self.finish()
        self.owes = False

    async def close(self) -> None:
        """Close the connection."""
        await self._socket.close()
