"""Cartesia's voices, through the vendor's own client.

Its asynchronous WebSocket connection (`client.tts.websocket_connect()`) sends and receives typed events, and its `recv`
may be cancelled: it is used as it is. Its `context` helper is not: it reads the socket in a task of its own into queues
that are dropped when a connection ends, so that a reply in the middle would wait for ever.

Wire format: https://docs.cartesia.ai/api-reference/tts/websocket, contexts:
https://docs.cartesia.ai/use-the-api/tts-websocket/contexts.
"""

from __future__ import annotations

import uuid
from collections.abc import Hashable
from typing import Any

from websockets.protocol import State

from engines.cloud import ANSWER_WITHIN, CONNECT_WITHIN, Vendor
from engines.stainless import Lazy, Sdk
from engines.tts.cloud_voice import CloudVoice
from engines.tts.vendor_socket import OPTIONS, VendorSocket
from engines.types import CLOUD, SPOKEN_RATE, EngineError, EngineInfo

SLOWEST, FASTEST = 0.6, 1.5
"""What Cartesia takes as a speed."""


class Cartesia(CloudVoice):
    """Speech by Cartesia.

    Args:
        api_key: Of Cartesia.
        model: As Cartesia names it.
        voice: Voice id where the agent's voice names none.
        url: Where Cartesia is reached.
    """

    def __init__(self, api_key: str, model: str, voice: str, url: str) -> None:
        info = EngineInfo("tts", "cartesia", model, CLOUD, "Cartesia's terms", paid=True)
        vendor = Vendor(
            "Cartesia", "CARTESIA_API_KEY", "CARTESIA_MODEL and CARTESIA_VOICE", "CARTESIA_URL", "play.cartesia.ai"
        )
        super().__init__(info, vendor, voice)
        self._sdk = _client(api_key, url)

    async def ask(self) -> None:
        """Look the default voice up."""
        sdk = await self._sdk.get()
        try:
            await sdk.client.voices.get(self._default_voice)
        except sdk.failures as error:
            raise sdk.engine_error(error, self._vendor, f"voice '{self._default_voice}'") from error

    async def connect(self, voice: str, language: str) -> VendorSocket:
        """A new connection."""
        client = (await self._sdk.get()).client
        connection = await client.tts.websocket_connect(websocket_connection_options=OPTIONS).enter()
        return CartesiaSocket(connection, self._vendor, self.info.model)

    def purpose(self, voice: str, language: str) -> Hashable:
        """Any connection speaks in any voice."""
        return None

    async def aclose(self) -> None:
        """Close the connections."""
        await super().aclose()
        await self._sdk.aclose()


class CartesiaSocket:
    """One connection. Each reply is a context of its own; what comes of another one is dropped."""

    def __init__(self, connection: Any, vendor: Vendor, model: str) -> None:
        self._connection = connection
        self._vendor = vendor
        self._model = model
        self._request: dict[str, Any] = {}
        self.owes = False

    @property
    def alive(self) -> bool:
        """Whether it is open."""
        return self._connection._connection.state is State.OPEN

    def begin(self, voice: str, language: str, rate: float) -> None:
        """Begin a new reply."""
        self.owes = False
        self._request = {
            "context_id": uuid.uuid4().hex,
            "model_id": self._model,
            "voice": {"id": voice},
            "language": language,
            "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": SPOKEN_RATE},
            # Whole clauses come here: waiting for more of the text would only cost time.
            "max_buffer_delay_ms": 0,
        }
        if rate != 1.0:
            self._request["generation_config"] = {"speed": min(FASTEST, max(SLOWEST, rate))}

    async def say(self, clause: str) -> None:
        """Send some of the reply's text."""
        if not self.owes:
            # A context ends by itself a second after its last sound, where the text was slow to come.
            self._request["context_id"] = uuid.uuid4().hex
        self.owes = True
        await self._connection.send({**self._request, "transcript": f"{clause} ", "continue": True})

    async def finish(self) -> None:
        """Say that the text is whole."""
        if self.owes:
            await self._connection.send({**self._request, "transcript": "", "continue": False})

    async def receive(self) -> bytes:
        """The next sound."""
        try:
            event = await self._connection.recv()
            context = getattr(event, "context_id", None)
            if context is not None and context != self._request.get("context_id"):
                return b""
            kind = getattr(event, "type", None)
            if kind == "error":
                self.owes = False
                raise self._refused(event)
            if kind == "done":
                self.owes = False
            return (event.audio or b"") if kind == "chunk" else b""
        except (ValueError, TypeError) as error:
            raise self._vendor.unreadable() from error

    def _refused(self, event: Any) -> EngineError:
        code = event.error_code if isinstance(event.error_code, str) else ""
        what = f"model '{self._model}' or voice '{self._request['voice']['id']}'"
        return self._vendor.refused(event.status_code or 500, code=code, what=what)

    async def stop(self) -> None:
        """Call the reply off."""
        await self._connection.send({"context_id": self._request["context_id"], "cancel": True})
        self.owes = False

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()


def _client(api_key: str, url: str) -> Lazy:
    def make() -> Sdk:
        import cartesia
        import httpx

        made = cartesia.AsyncCartesia(
            api_key=api_key,
            base_url=url,
            # By itself the client turns any address into wss://.
            websocket_base_url="ws" + url.removeprefix("http"),
            timeout=httpx.Timeout(ANSWER_WITHIN, connect=CONNECT_WITHIN, pool=None),
            max_retries=0,
        )
        # Parts of the package are imported when first touched: here, off the event loop.
        _ = (made.tts, made.voices)
        return Sdk(made, cartesia, httpx.HTTPError)

    return Lazy(make)
