"""The HTTP end of our servers: connections that trickle, swell, crowd or are never read are ended, and told why.

uvicorn bounds none of these. What is refused here never became a request, so the answer is written by hand, in the
contract's shape. After a refusal what still comes is thrown away for a moment: a line that is closed at once is reset,
and the caller never sees why.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_WITHIN = 20.0
"""Seconds for a request's line and headers, and for the first byte on a new connection."""

HEAD_LIMIT = 32 * 1024
"""Bytes of a request's line and headers together."""

LINE_LIMIT = 8 * 1024
"""Bytes of one header, or of the address; WebSockets are read by a library that has the same limit."""

HEADERS_LIMIT = 100
"""Headers of a request."""

READ_WITHIN = 60.0
"""Seconds in which a caller must have read some of an answer that waits for it."""

LINGER = 2.0
"""Seconds for which a connection that is being closed may still take what was written, or send what is dropped."""

RETRY_AFTER = 5
"""Seconds after which a caller refused for want of connections is told to try again."""


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration, with the number of connections that the process holds at once, and longer addresses.

    Args:
        args: uvicorn's.
        max_connections: Connections held at once.
        longest_address: Bytes of a request's address, where some of them need more than others' `LINE_LIMIT`.
        options: uvicorn's.
    """

    def __init__(self, *args: Any, max_connections: int, longest_address: int = LINE_LIMIT, **options: Any) -> None:
        super().__init__(*args, **options)
        self.max_connections = max_connections
        self.longest_address = longest_address
        self.head_limit = HEAD_LIMIT + longest_address - LINE_LIMIT


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounded heads, connections and patience."""

    config: ServerConfig

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_request = False
        self._refusal: tuple[HTTPStatus, str, str] | None = None
        self._over = False
        """Whether the connection was refused, so that what still comes is dropped."""

    # --- the connection ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, unless the process holds as many as it may."""
        super().connection_made(transport)
        held = len(self.connections)
        if held > self.config.max_connections * 1.1 + 16:
            transport.abort()
        elif held > self.config.max_connections:
            message = f"Every connection is taken; try again in {RETRY_AFTER} seconds."
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "full", message)
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came, as long as its head stays within bounds."""
        if self._over:
            return
        if not self._in_request and self._head_timer is None:
            self._expect_head()
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > self.config.head_limit and not self._over:
            self._refuse(*_head_too_big())

    # --- requests ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        self._in_request = True
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """Begin the request, unless its head is too big."""
        self._stop_head_timer()
        if not self.url.isascii():
            raise ValueError
        longest = self.config.longest_address
        if len(self.url) > longest:
            self._refusal = HTTPStatus.REQUEST_URI_TOO_LONG, "too_big", f"An address has at most {longest} bytes."
            raise ValueError
        sizes = [len(name) + len(value) for name, value in self.headers]
        if len(sizes) > HEADERS_LIMIT or sum(sizes) > HEAD_LIMIT or max(sizes, default=0) > LINE_LIMIT - 4:
            self._refusal = _head_too_big()
            raise ValueError
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request's last byte."""
        self._in_request = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Take the next request; a caller who is still sending the old one has a moment to end it."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_within(LINGER)
        elif self._in_request:
            self.loop.call_later(LINGER, self._end_if_still_sending, self.cycle)

    def _end_if_still_sending(self, answered: object) -> None:
        if self._in_request and self.cycle is answered:
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which nothing more was asked."""
        super().timeout_keep_alive_handler()
        self._abort_within(LINGER)

    # --- answers -----------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """An answer waits to be read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(READ_WITHIN, self.transport.abort)

    def resume_writing(self) -> None:
        """Some of it was read."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    # --- refusals ----------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Answer what can't be read as HTTP, or was found to be too big while it was read."""
        status, code, message = self._refusal or (HTTPStatus.BAD_REQUEST, "bad_request", "This isn't an HTTP request.")
        self._refuse(status, code, message)

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        """Write a refusal and end the connection; in the middle of an answer just end it."""
        self._stop_head_timer()
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            head.append(f"retry-after: {RETRY_AFTER}")
        self._over = True
        if not self.transport.is_closing():
            self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
            if self.transport.can_write_eof():
                self.transport.write_eof()
        if self.cycle is not None and not self.cycle.response_complete:
            # Nobody will be told what the handler of a broken request makes of it.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self.loop.call_later(LINGER, self._close)

    def _close(self) -> None:
        self.transport.close()
        self._abort_within(LINGER)

    def _abort_within(self, seconds: float) -> None:
        self.loop.call_later(seconds, self.transport.abort)

    # --- the clock of the head ---------------------------------------------------------------------------

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(HEAD_WITHIN, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_head()  # of a request sent ahead, while the one before it is answered
        elif self._head_bytes == 0:
            self._close()
        else:
            message = f"A request's headers must come within {HEAD_WITHIN:g} seconds."
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "too_slow", message)


def _head_too_big() -> tuple[HTTPStatus, str, str]:
    message = f"A request has at most {HEADERS_LIMIT} headers and {HEAD_LIMIT} bytes of them, {LINE_LIMIT} in one."
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_big", message
