"""A WebSocket client's view of a service: JSON in, JSON or sound out."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed


@asynccontextmanager
async def connected(url: str, path: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """A socket to `path` at the HTTP address `url`."""
    async with websockets.connect(url.replace("http", "ws", 1) + path, proxy=None, **options) as ws:
        yield ws


async def tell(ws: ClientConnection, **fields: Any) -> None:
    """Send one JSON message."""
    await ws.send(json.dumps(fields))


async def answer(ws: ClientConnection, *kinds: str) -> dict[str, Any]:
    """The next JSON message of one of these kinds (any, where none is given); others are passed over."""
    async with asyncio.timeout(60):
        while True:
            message = await ws.recv()
            if isinstance(message, str):
                fields: dict[str, Any] = json.loads(message)
                if not kinds or fields["type"] in kinds:
                    return fields


async def close_code(ws: ClientConnection) -> int | None:
    """The code with which the server closes the socket."""
    async with asyncio.timeout(60):
        try:
            while True:
                await ws.recv()
        except ConnectionClosed:
            return ws.close_code


async def until(true: Callable[[], object]) -> None:
    """Wait until something is true."""
    for _ in range(6000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never became true")


class Relay:
    """A TCP line to a service that can be cut in the middle.

    Attributes:
        url: HTTP address of its near end.
    """

    def __init__(self, url: str) -> None:
        self._host, _, self._port = url.removeprefix("http://").partition(":")
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until either end closes."""
        far_reader, far_writer = await asyncio.open_connection(self._host, int(self._port))
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self) -> None:
        """Break all connections off."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@asynccontextmanager
async def relay(url: str) -> AsyncIterator[Relay]:
    """A line to the service at `url` that the test can cut."""
    line = Relay(url)
    server = await asyncio.start_server(line.carry, "127.0.0.1", 0)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        line.cut()
