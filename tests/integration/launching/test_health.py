"""Asking a part for its health: answers, refusals and silences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from launching.health import ask


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A server that gives this answer to everyone, or none at all; its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/health"


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nfine", (200, "fine")),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\nno\n  model", (503, "no model")),
        (b"HTTP/1.1 200 OK\r\n\r\n", (200, "")),
        (b'HTTP/1.1 503 No\r\n\r\n{"status": "unavailable", "reason": "no database"}', (503, "no database")),
    ],
)
async def test_the_status_and_the_words_are_told(answer: bytes, heard: tuple[int, str]) -> None:
    async with answering(answer) as address:
        assert await ask(address, 30) == heard


@pytest.mark.parametrize("answer", [b"", b"hello\r\n\r\n", b"HTTP/1.1 fine\r\n\r\n"])
async def test_an_answer_that_is_none_counts_as_none(answer: bytes) -> None:
    async with answering(answer) as address:
        status, reason = await ask(address, 30)
    assert status == 0 and reason.startswith("no answer")


async def test_an_answer_that_comes_in_pieces_is_read_whole() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in (b"HTTP/1.1 503 No\r\n\r\n", b'{"status": "unavailable", ', b'"reason": "no database"}'):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/health"
        assert await ask(address, 30) == (503, "no database")


async def test_silence_is_given_up() -> None:
    async with answering(None) as address:
        assert await ask(address, 0.05) == (0, "no answer within 0.05 s")


async def test_nobody_there_is_no_answer() -> None:
    async with answering(b"") as address:
        pass
    assert (await ask(address, 30))[0] == 0
