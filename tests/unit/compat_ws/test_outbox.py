"""The outbox keeps order, never makes anyone wait, takes unsent sound back, and notices who doesn't read."""

from __future__ import annotations

import asyncio

import pytest

from compat_ws.outbox import PATIENCE, NotRead, Outbox
from tests.virtual_clock import virtual_time


class Line:
    """A client's line that can be full."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, message: str | bytes) -> None:
        await self.open.wait()
        self.sent.append(message)


@virtual_time
async def test_messages_are_sent_in_order() -> None:
    line = Line()
    outbox = Outbox(line.send)
    task = asyncio.create_task(outbox.run())
    outbox.put("a")
    outbox.put(b"b", sound=0.1)
    await asyncio.sleep(1)
    outbox.put("c")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert line.sent == ["a", b"b", "c"]
    task.cancel()


@virtual_time
async def test_a_client_that_does_not_read_is_noticed() -> None:
    line = Line()
    outbox = Outbox(line.send)
    task = asyncio.create_task(outbox.run())
    await asyncio.sleep(100)
    line.open.clear()
    outbox.put("a")
    with pytest.raises(NotRead, match="10 s"):
        await task
    assert asyncio.get_running_loop().time() == pytest.approx(100 + PATIENCE)


@virtual_time
async def test_a_client_that_reads_late_but_reads_is_kept() -> None:
    line = Line()
    outbox = Outbox(line.send)
    task = asyncio.create_task(outbox.run())
    for _ in range(5):
        line.open.clear()
        outbox.put("a")
        outbox.put("b")
        await asyncio.sleep(PATIENCE - 1)
        line.open.set()
        await asyncio.sleep(1)
    assert not task.done()
    assert len(line.sent) == 10
    task.cancel()


@virtual_time
async def test_sound_that_was_not_sent_can_be_taken_back_and_words_stay() -> None:
    line = Line()
    outbox = Outbox(line.send)
    outbox.put("a")
    outbox.put(b"1", sound=0.04)
    outbox.put("b")
    outbox.put(b"2", sound=0.02)
    assert outbox.drop_sound() == pytest.approx(0.06)
    assert outbox.drop_sound() == 0.0
    task = asyncio.create_task(outbox.run())
    await asyncio.sleep(0.1)
    assert line.sent == ["a", "b"]
    task.cancel()
