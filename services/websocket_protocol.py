"""The WebSocket end of our servers: a client that doesn't read is noticed soon, told why, and let go of for good.

uvicorn waits until its own buffers are empty before it sends even a close, and closes a dead line only when all
was read. Here the system's send buffer holds a second or two of sound, a close is always written at once, and a
client that doesn't answer it is cut off.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

SEND_BUFFER = 64 * 1024
"""Bytes the system may hold for a client that reads slowly; Linux counts its own bookkeeping on top."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol with bounded buffers and closes that end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound what waits for this client."""
        super().connection_made(transport)
        line = transport.get_extra_info("socket")
        if line is not None and line.family in (socket.AF_INET, socket.AF_INET6):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    async def send(self, message: ASGISendEvent) -> None:
        """Send what the app sends; a close doesn't wait for a client that reads nothing."""
        closing = message["type"] == "websocket.close"
        if closing:
            self.writable.set()
        await super().send(message)
        if closing:
            self._end_within(self.close_timeout)

    def keepalive_timeout(self) -> None:
        """A client that answers no ping is cut off."""
        super().keepalive_timeout()
        self._end_within(self.close_timeout)

    async def run_asgi(self) -> None:
        """Serve the socket; when the app has returned, its line ends, read or not."""
        await super().run_asgi()
        self._end_within(self.close_timeout)

    def _end_within(self, seconds: float) -> None:
        self.loop.call_later(seconds, self.transport.abort)
