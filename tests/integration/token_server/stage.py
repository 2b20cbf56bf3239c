"""A running token server, people who join with its tokens, and what an agent worker says of itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from livekit import rtc

from library import LeaseHolder, Library
from services.http import bind, make_server
from settings import Settings
from token_server.app import build

PAGE = "<!doctype html><title>Voice Node</title>"


@dataclass
class Served:
    """A running token server."""

    port: int
    library: Library
    http: httpx.AsyncClient
    rooms: list[rtc.Room] = field(default_factory=list)

    async def token(self, **request: Any) -> tuple[str, str]:
        answer = await self.http.post("/api/token", json=request)
        assert answer.status_code == 201, answer.text
        body = answer.json()
        return body["server_url"], body["participant_token"]

    async def join(self, **request: Any) -> rtc.Room:
        """A person who joins with a token of the endpoint."""
        return await self.enter(*await self.token(**request))

    async def enter(self, url: str, token: str) -> rtc.Room:
        room = rtc.Room()
        await room.connect(url, token)
        self.rooms.append(room)
        return room


@contextlib.asynccontextmanager
async def serving(page: Path) -> AsyncIterator[Served]:
    """Run the token server that the environment describes."""
    settings = Settings()
    server = make_server(build(settings, page=page))
    sock = bind("127.0.0.1", 0)
    port: int = sock.getsockname()[1]
    task = asyncio.create_task(server.serve(sockets=[sock]))
    library = await Library.open(settings)
    try:
        await until(lambda: server.started)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            served = Served(port, library, client)
            yield served
            await asyncio.gather(*(room.disconnect() for room in served.rooms))
    finally:
        server.should_exit = True
        await task
        await library.aclose()


@contextlib.asynccontextmanager
async def worker_alive(served: Served, limit: int | None = 4) -> AsyncIterator[LeaseHolder]:
    """Announce an agent worker with so many places, as a real one does in the database."""
    holder = LeaseHolder(served.library, "agent", limit)
    await holder.start()
    try:
        yield holder
    finally:
        await holder.aclose()


async def until(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], *, within: float = 30.0, every: float = 0.05
) -> None:
    """Return once the condition holds; fail after so many seconds, which say nothing about how fast it should be."""
    async with asyncio.timeout(within):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(every)
