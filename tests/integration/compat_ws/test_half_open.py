"""Clients that vanish without closing, and ones that only look like it, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import httpx
import pytest
from websockets.asyncio.client import ClientConnection

from engines.watchdog import LOGGER
from tests.cut_line import cut
from tests.integration.compat_ws.conftest import House, Open, until

CHUNK = bytes(640)
FOUND_WITHIN = 10.0
"""Seconds, three times what it takes: other tests run beside."""


async def speak(client: ClientConnection, seconds: float) -> None:
    """Send silence in real time, as a microphone does."""
    for _ in range(round(seconds / 0.02)):
        await client.send(CHUNK)
        await asyncio.sleep(0.02)


def pull_the_cable(client: ClientConnection) -> None:
    """Nothing comes or goes any more on the client's side, which closes nothing."""
    cut(client.transport.get_extra_info("socket"))


@pytest.mark.parametrize("speaking", [False, True], ids=["while the person speaks", "while the agent speaks"])
async def test_a_client_that_vanished_gives_its_place_back_and_may_come_again(
    house: House, caplog: pytest.LogCaptureFixture, speaking: bool
) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        client = await house.call("s1", "?audio=binary")
        await speak(client, 0.5)
        if speaking:
            await house.talks[0].speak(60)
            await asyncio.sleep(0.2)
        pull_the_cable(client)
        await until(lambda: house.talks[0].closed and house.equipment.places.held == 0, FOUND_WITHIN)
    assert [record.__dict__["watchdog"] for record in caplog.records if record.name == LOGGER] == ["half_open_socket"]
    assert await house.equipment.library.leases.get("s1") is None
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}") as http:
        assert 'voice_node_watchdog_total{what="half_open_socket"} 1.0' in (await http.get("/metrics")).text
    async with await house.call("s1"):
        assert house.equipment.places.held == 1
    client.transport.abort()


async def test_a_client_that_stops_sending_and_answers_pings_stays(house: House) -> None:
    async with await house.call("s1") as client:
        await speak(client, 0.5)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(client.recv(), 6.0)
        assert not house.talks[0].closed
        await client.ping()


async def test_a_program_that_blocks_for_a_while_stays(open_house: Open) -> None:
    house = await open_house()
    async with await house.call("s1") as client:
        client.transport.pause_reading()  # type: ignore[attr-defined]
        await speak(client, 2.0)
        await asyncio.sleep(5.0)
        assert not house.talks[0].closed
        client.transport.resume_reading()  # type: ignore[attr-defined]
        await client.ping()
