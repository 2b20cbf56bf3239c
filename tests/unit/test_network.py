"""The relays that stand for bad networks do what they say, so that tests behind them test something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.network import Address, TcpRelay, UdpRelay


@asynccontextmanager
async def echo() -> AsyncIterator[Address]:
    """A TCP server that sends back what it gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()


async def test_a_stalled_stream_keeps_what_comes_and_hands_it_on_at_once() -> None:
    async with echo() as address, TcpRelay.listening(address) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        relay.up.stall()
        for _ in range(3):
            writer.write(b"two")
            await asyncio.sleep(0.05)
        assert relay.up.passed == 3
        relay.up.go_on()
        assert await reader.readexactly(9) == b"twotwotwo"
        writer.close()


async def test_a_delay_counts_each_way() -> None:
    async with echo() as address, TcpRelay.listening(address) as relay:
        relay.up.delay = relay.down.delay = 0.2
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        begun = asyncio.get_running_loop().time()
        writer.write(b"one")
        await reader.readexactly(3)
        assert asyncio.get_running_loop().time() - begun >= 0.4
        writer.close()


async def test_a_cut_line_breaks_and_a_refused_one_never_stands() -> None:
    async with echo() as address, TcpRelay.listening(address) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"one")
        await reader.readexactly(3)
        relay.refusing = True
        relay.cut()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"two")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        assert relay.accepted == 1


class Datagrams(asyncio.DatagramProtocol):
    """Notes what comes; sends it back where asked to."""

    def __init__(self, echoes: bool = False) -> None:
        self.echoes = echoes
        self.came: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, sender: Address) -> None:
        self.came.append(data)
        if self.echoes:
            self.transport.sendto(data, sender)  # type: ignore[attr-defined]


async def test_datagrams_are_lost_in_the_share_asked_for_and_others_are_spared() -> None:
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(lambda: Datagrams(echoes=True), local_addr=("127.0.0.1", 0))
    port = server.get_extra_info("sockname")[1]
    spared: set[int] = set()
    async with UdpRelay.listening(("127.0.0.2", port), ("127.0.0.1", port), spared.__contains__) as relay:
        clients: list[Datagrams] = []
        for safe in (False, True):
            client, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
            clients.append(protocol)
            if safe:
                spared.add(client.get_extra_info("sockname")[1])
            relay.up.loss = 0.4
            for number in range(500):
                client.sendto(str(number).encode(), ("127.0.0.2", port))
                if number % 20 == 0:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.3)
            client.close()
    assert 230 <= len(clients[0].came) <= 370
    assert relay.up.lost + relay.up.passed == 500
    assert len(clients[1].came) > 450
    server.close()


async def test_jitter_changes_the_order() -> None:
    loop = asyncio.get_running_loop()
    server, got = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    port = server.get_extra_info("sockname")[1]
    async with UdpRelay.listening(("127.0.0.2", port), ("127.0.0.1", port)) as relay:
        client, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        relay.up.jitter = 0.2
        for number in range(50):
            client.sendto(str(number).encode(), ("127.0.0.2", port))
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.5)
        client.close()
    server.close()
    numbers = [int(data) for data in got.came]
    assert sorted(numbers) == list(range(50))
    assert numbers != sorted(numbers)
