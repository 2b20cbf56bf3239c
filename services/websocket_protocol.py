"""The WebSocket end of our servers: a client that doesn't read is noticed soon, told why, and let go of for good.

uvicorn waits until its own buffers are empty before it sends even a close, and closes a dead line only when all
was read. Here the system's send buffer holds a second or two of sound, a close is always written at once, and a
client that doesn't answer it is cut off. A client that has vanished is found by pings (services/half_open.py).

What breaks WebSocket's own rules never reaches the app. It is answered here, with the contract's error before the
close, and what still comes is dropped for a moment: a line that is closed at once is reset, and the error lost.
"""

from __future__ import annotations

import asyncio
import json
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from engines.watchdog import bite
from services.half_open import READS_WITHIN, Verdict
from services.socket_watch import SocketWatch

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

SEND_BUFFER = 64 * 1024
"""Bytes the system may hold for a client that reads slowly; Linux counts its own bookkeeping on top."""

FRAGMENTS = 1024
"""Frames that one message may come in."""

UNREAD = 1024 * 1024
"""Bytes that may wait for a client that reads nothing, whoever wrote them; pings are answered, too."""

LINGER = 2.0
"""Seconds for which what a refused client still sends is dropped."""


class _Handshake(ServerProtocol):
    """Refuses handshakes in the contract's shape."""

    def reject(self, status: int, text: str) -> Response:
        """The answer to a handshake that can't be accepted."""
        status = HTTPStatus(status)
        message = text.strip() or "This WebSocket handshake is refused."
        body = {"error": {"code": _code(status), "message": message}}
        response = super().reject(status, json.dumps(body))
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol with bounded buffers, errors in words, and closes that end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn = _Handshake(max_size=self.config.ws_max_size, logger=self.logger)
        self._watch: SocketWatch | None = None
        self._over = False
        """Whether the client broke the rules, so that what still comes is dropped."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound what waits for this client."""
        super().connection_made(transport)
        line = transport.get_extra_info("socket")
        if line is not None and line.family in (socket.AF_INET, socket.AF_INET6):
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    # --- what comes ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read what came, unless the client was refused."""
        if self._over:
            return
        if self._watch is not None:
            self._watch.client.received()
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # The library has noted why, and answers only what it could read as a request.
            self._over = self.handshake_complete = self.close_sent = True
            self.conn.send_response(self.conn.reject(HTTPStatus.BAD_REQUEST, "This WebSocket handshake can't be read."))
            self._flush()
            self._end_within(LINGER)

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake; one that is refused ends after its answer."""
        super().handle_connect(event)
        if self.transport.is_closing():
            self._end_within(LINGER)

    def handle_cont(self, event: Frame) -> None:
        """Go on with a message, unless it comes in too many pieces."""
        if len(self.frames) >= FRAGMENTS:
            self._refuse(CloseCode.MESSAGE_TOO_BIG, "too_big", f"A message comes in at most {FRAGMENTS} frames.")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Pass a message on, unless it says that it is text and isn't."""
        if self._over:
            return
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self._refuse(CloseCode.UNSUPPORTED_DATA, "bad_request", "Text messages are UTF-8.")
                return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer a ping; a client that sends them without reading the answers is cut off."""
        if self._over:
            return
        super().handle_ping()
        if self.transport.get_write_buffer_size() > UNREAD:
            self.transport.abort()

    def handle_parser_exception(self) -> None:
        """Tell a client that broke WebSocket's rules which one, and end the connection."""
        close = self.conn.close_sent
        if self.close_sent:
            self._over = True  # the client was told already, and may still be reading why
        elif close is None or close.code == CloseCode.ABNORMAL_CLOSURE:
            self._over = True
            self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.ABNORMAL_CLOSURE})
            self.transport.abort()
        elif close.code == CloseCode.MESSAGE_TOO_BIG:
            largest = f"A message has at most {self.config.ws_max_size} bytes."
            self._tell("too_big", largest, close.code)
        else:
            self._tell("bad_request", f"This isn't how WebSockets talk: {close.reason}.", close.code)

    def _refuse(self, code: int, name: str, message: str) -> None:
        """End the connection for what the client sent."""
        if self.close_sent:
            return
        self.conn.fail(code, message)
        self._tell(name, message, code)

    def _tell(self, name: str, message: str, code: int) -> None:
        """The error and then the close, which the library has ready; the app learns of the close."""
        self._over = self.close_sent = True
        self.stop_keepalive()
        error = json.dumps({"type": "error", "code": name, "message": message}).encode()
        self.transport.write(Frame(Opcode.TEXT, error).serialize(mask=False))
        self._flush()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": message})
        self.writable.set()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()  # so that the client, having read the close, ends the line itself
        self.close_timer = self.loop.call_later(LINGER, self.transport.close)
        self._end_within(2 * LINGER)

    def _flush(self) -> None:
        self.transport.write(b"".join(self.conn.data_to_send()))

    # --- what goes ----------------------------------------------------------------------------------------

    async def send(self, message: ASGISendEvent) -> None:
        """Send what the app sends; a close doesn't wait for a client that reads nothing."""
        closing = message["type"] == "websocket.close"
        if closing:
            self.writable.set()
        await super().send(message)
        if closing:
            self._end_within(self.close_timeout)

    # --- whether the client is there ----------------------------------------------------------------------

    def start_keepalive(self) -> None:
        """Watch over the client from the handshake on, in place of uvicorn's own pings."""
        self._watch = SocketWatch(
            self.loop,
            self.transport.get_extra_info("socket"),
            ping=self.send_keepalive_ping,
            unread=lambda: not self.writable.is_set() or self.transport.get_write_buffer_size() > 0,
            deaf=lambda: self.read_paused,
            ended=self._abandoned,
        )

    def stop_keepalive(self) -> None:
        """The connection ends, or has ended."""
        super().stop_keepalive()
        if self._watch is not None:
            self._watch.stop()

    def schedule_ping(self) -> None:
        """The watch decides when."""

    def handle_pong(self, event: Frame) -> None:
        """The newest ping was answered."""
        if self._watch is not None and bytes(event.data) == self.pending_ping_payload:
            self._watch.client.answered()
        super().handle_pong(event)

    def _abandoned(self, verdict: Verdict) -> None:
        """Let a client go that isn't there, or that does nothing; the app learns of it."""
        if self.close_sent or self.transport.is_closing():
            return
        bite("half_open_socket", "a WebSocket's client didn't answer, its socket was closed", client=verdict)
        if verdict == "not reading":
            self.conn.send_close(CloseCode.POLICY_VIOLATION, f"no ping was answered for {READS_WITHIN:.0f} s")
            self._flush()
            self._end_within(LINGER)
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.ABNORMAL_CLOSURE})
        self.writable.set()
        if verdict == "gone":
            self.transport.abort()

    async def run_asgi(self) -> None:
        """Serve the socket; when the app has returned, its line ends, read or not."""
        await super().run_asgi()
        self._end_within(self.close_timeout)

    def _end_within(self, seconds: float) -> None:
        self.loop.call_later(seconds, self.transport.abort)


def _code(status: HTTPStatus) -> str:
    return {400: "bad_request", 403: "forbidden", 431: "too_big", 414: "too_big", 500: "internal"}.get(
        status, status.phrase.lower().replace(" ", "_")
    )
