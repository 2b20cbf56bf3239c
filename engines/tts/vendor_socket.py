"""Connections to a voice's vendor: one reply at a time each, kept open for the next one that fits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from engines.chores import Chores
from engines.cloud import CONNECT_WITHIN, Vendor, code_in, retry_after_in
from engines.types import EngineError, EngineUnavailable
from engines.wire import read_message

KEPT = 16
"""Open connections kept for the next reply."""
TELL_WITHIN = 0.2
"""Seconds for the word that a reply is over: a vendor that reads nothing isn't waited for."""

OPTIONS: dict[str, Any] = {
    "open_timeout": CONNECT_WITHIN,
    "close_timeout": 1,
    # What has come is kept here, so that a slow listener never looks like a dead line to the vendor.
    "max_queue": None,
    "max_size": None,
    # Sound is base64 in JSON: packing it again costs more time than it saves.
    "compression": None,
}
"""For `websockets`, in all connections to vendors."""


class VendorSocket(Protocol):
    """One connection, on which one reply is spoken at a time."""

    @property
    def owes(self) -> bool:
        """Whether sound of the reply is still to come."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it can be used again."""
        ...

    def begin(self, voice: str, language: str, rate: float) -> None:
        """Begin a new reply; what still comes of an earlier one is dropped."""
        ...

    async def say(self, clause: str) -> None:
        """Send some of the reply's text, to be spoken at once."""
        ...

    async def finish(self) -> None:
        """Say that the text is whole."""
        ...

    async def receive(self) -> bytes:
        """The next sound, 16-bit little-endian PCM at 24 kHz; empty where only `owes` may have changed.

        May be cancelled without losing anything.

        Raises:
            EngineError: The vendor refuses the reply.
            ConnectionClosed: The connection ended.
        """
        ...

    async def stop(self) -> None:
        """Call the reply off."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class SocketsKept:
    """The connections of one engine, by what they are good for."""

    def __init__(self) -> None:
        self._idle: list[tuple[Hashable, VendorSocket]] = []
        self._chores = Chores("close a vendor's socket")
        self._closed = False

    def take(self, purpose: Hashable) -> VendorSocket | None:
        """An open connection that nobody else uses, the one used last; None where there is none.

        Raises:
            EngineUnavailable: The engine is closed.
        """
        if self._closed:
            raise EngineUnavailable("This engine has been closed.")
        for place in reversed(range(len(self._idle))):
            if self._idle[place][0] == purpose:
                socket = self._idle.pop(place)[1]
                if socket.alive:
                    return socket
                self.drop(socket)
        return None

    def keep(self, purpose: Hashable, socket: VendorSocket) -> None:
        """Keep a connection for the next reply; the one unused for longest goes where there are too many."""
        if self._closed or not socket.alive:
            self.drop(socket)
            return
        self._idle.append((purpose, socket))
        if len(self._idle) > KEPT:
            self.drop(self._idle.pop(0)[1])

    async def stop(self, purpose: Hashable, socket: VendorSocket) -> None:
        """Call off the reply on a connection, and keep it where the word went out."""
        try:
            async with asyncio.timeout(TELL_WITHIN):
                await socket.stop()
        except (TimeoutError, ConnectionClosed):
            self.drop(socket)
        else:
            self.keep(purpose, socket)

    def drop(self, socket: VendorSocket) -> None:
        """Close a connection without waiting for it."""
        self._chores.do(socket.close())

    async def aclose(self) -> None:
        """Close all idle connections; those in use are closed when they come back."""
        self._closed = True
        while self._idle:
            self.drop(self._idle.pop()[1])
        await self._chores.aclose()


async def connected(
    connect: Callable[[], Awaitable[VendorSocket]], vendor: Vendor, what: str, status_of: Callable[[str, int], int]
) -> VendorSocket:
    """A new connection.

    Args:
        connect: Makes it.
        vendor: For messages.
        what: The model and voice that are asked for.
        status_of: The HTTP status that an error code of the vendor stands for, or the one it came with.

    Raises:
        EngineError: The vendor refuses it, or can't be reached.
    """
    try:
        return await connect()
    except InvalidStatus as error:
        answer = error.response
        code = _code(answer.body)
        raise vendor.refused(
            status_of(code, answer.status_code), code=code, retry_after=retry_after_in(answer.headers), what=what
        ) from error
    except (OSError, TimeoutError, WebSocketException) as error:
        raise vendor.unreachable(error) from error


def _code(body: bytes | bytearray | None) -> str:
    try:
        return code_in(read_message(bytes(body or b"").decode(errors="replace")))
    except EngineError:
        return ""
