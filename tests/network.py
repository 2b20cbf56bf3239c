"""Bad networks for tests: relays on loopback that delay, lose, hold back and cut what passes through them.

    async with TcpRelay.listening(to=("127.0.0.1", 8000)) as relay:
        relay.up.delay = relay.down.delay = 0.3

`up` is what the client sends, `down` what it receives; both may be changed at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

Address = tuple[str, int]


@dataclass
class Stream:
    """One direction of a TCP relay.

    Attributes:
        delay: Seconds that every byte is under way.
        passed: Bytes handed on so far.
    """

    delay: float = 0.0
    passed: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def stall(self) -> None:
        """Let nothing through; it is kept, as TCP keeps what it has to send again."""
        self.open.clear()

    def go_on(self) -> None:
        """Let through what was kept, all at once, and what comes."""
        self.open.set()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on what is read until it ends."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def read() -> None:
            while data := await reader.read(65536):
                under_way.put_nowait((loop.time() + self.delay, data))
            under_way.put_nowait((loop.time() + self.delay, b""))

        reading = asyncio.create_task(read())
        try:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self.open.wait()
                if not data:
                    writer.write_eof()
                    return
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


class TcpRelay:
    """Passes connections on to an address."""

    def __init__(self, to: Address) -> None:
        self._to = to
        self._lines: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.up, self.down = Stream(), Stream()
        self.refusing = False
        """Whether new connections are broken at once."""
        self.port = 0
        self.accepted = 0

    @classmethod
    @asynccontextmanager
    async def listening(cls, to: Address) -> AsyncIterator[TcpRelay]:
        """A relay on a free port of 127.0.0.1."""
        relay = cls(to)
        server = await asyncio.start_server(relay._accept, "127.0.0.1", 0)
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            server.close()
            relay.cut()
            await asyncio.gather(*relay._lines, return_exceptions=True)

    def cut(self) -> None:
        """Break all connections, as a router does that forgets them."""
        for writer in self._writers:
            writer.transport.abort()
        for line in self._lines:
            line.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.accepted += 1
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        writers = {writer}
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection(*self._to)
            writers.add(back)
            self._writers.add(back)
            await asyncio.gather(self.up.pump(reader, back), self.down.pump(there, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in writers:
                one.transport.abort()
            self._writers -= writers
            self._lines.discard(line)


@dataclass
class Datagrams:
    """One direction of a UDP relay.

    Attributes:
        loss: Share of the datagrams lost, 0 to 1.
        delay: Seconds that each is under way.
        jitter: Seconds by which that varies at most; more than the gap between two sends changes their order.
        passed: Datagrams handed on so far.
        lost: Datagrams lost so far.
    """

    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    passed: int = 0
    lost: int = 0

    def send(self, chance: random.Random, hand_on: Callable[[bytes], None], data: bytes) -> None:
        """Hand a datagram on, later or never."""
        if chance.random() < self.loss:
            self.lost += 1
            return
        self.passed += 1
        delay = self.delay + chance.uniform(0.0, self.jitter)
        if delay:
            asyncio.get_running_loop().call_later(delay, hand_on, data)
        else:
            hand_on(data)


class UdpRelay(asyncio.DatagramProtocol):
    """Passes datagrams on to an address, each sender from a port of its own, and the answers back.

    Args:
        to: Where to.
        spared: Tells of a sender's port whether its datagrams pass unharmed.
        seed: Of all chance.
    """

    def __init__(self, to: Address, spared: Callable[[int], bool] = lambda port: False, seed: int = 1) -> None:
        self._to = to
        self._spared = spared
        self._chance = random.Random(seed)
        self._flows: dict[Address, _Flow] = {}
        self.up, self.down = Datagrams(), Datagrams()
        self.clear = Datagrams()
        """What passes unharmed, both ways."""

    @classmethod
    @asynccontextmanager
    async def listening(
        cls, on: Address, to: Address, spared: Callable[[int], bool] = lambda port: False, seed: int = 1
    ) -> AsyncIterator[UdpRelay]:
        """A relay on an address of loopback."""
        loop = asyncio.get_running_loop()
        transport, relay = await loop.create_datagram_endpoint(lambda: cls(to, spared, seed), local_addr=on)
        try:
            yield relay
        finally:
            transport.close()
            for flow in relay._flows.values():
                flow.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: Address) -> None:
        flow = self._flows.get(sender)
        if flow is None:
            spared = self._spared(sender[1])
            up, down = (self.clear, self.clear) if spared else (self.up, self.down)
            flow = self._flows[sender] = _Flow(lambda back: down.send(self._chance, self._answer(sender), back), up)
            flow.task = asyncio.create_task(flow.open(self._to))
        flow.up.send(self._chance, flow.send, data)

    def _answer(self, sender: Address) -> Callable[[bytes], None]:
        return lambda data: self._transport.sendto(data, sender)

    def error_received(self, error: Exception) -> None:
        """A client that has left; its datagrams are lost."""


class _Flow(asyncio.DatagramProtocol):
    """One sender's way to the target."""

    def __init__(self, answered: Callable[[bytes], None], up: Datagrams) -> None:
        self._answered = answered
        self.up = up
        self._transport: asyncio.DatagramTransport | None = None
        self._early: list[bytes] = []
        self.task: asyncio.Task[None] | None = None

    async def open(self, to: Address) -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, remote_addr=to)
        self._transport = transport
        for data in self._early:
            transport.sendto(data)

    def send(self, data: bytes) -> None:
        if self._transport is None:
            self._early.append(data)
        elif not self._transport.is_closing():
            self._transport.sendto(data)

    def datagram_received(self, data: bytes, sender: Address) -> None:
        with contextlib.suppress(RuntimeError):  # the relay has closed
            self._answered(data)

    def error_received(self, error: Exception) -> None:
        """The target isn't there; the datagram is lost."""

    def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
        if self._transport is not None:
            self._transport.close()
