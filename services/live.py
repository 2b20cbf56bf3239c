"""Work that lasts only as long as its caller listens: a caller who leaves stops the engine behind the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.errors import ApiError

T = TypeVar("T")


async def while_listening(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the caller leaves; the request's body has been read.

    Raises:
        ApiError: The caller left (nobody sees it).
    """
    task = asyncio.create_task(work, name="work for a caller")
    await _first(task, request.receive)
    if task.cancelled():
        raise ApiError(499, "gone", "The caller left.")
    return task.result()


class LiveResponse(Response):
    """An answer sent piece by piece as it is made.

    The status goes out with the first piece, so that what fails before it is still answered as an error. The pieces'
    generator runs, and is closed, in one task.

    Args:
        pieces: The body; closed when the caller leaves.
        media_type: Its content type.
        headers: Further headers.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.pieces = pieces
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        # Proxies pass pieces on as they come.
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; raises what the pieces' generator raises."""
        task = asyncio.create_task(self._stream(send), name="stream an answer")
        await _first(task, receive)
        if not task.cancelled():
            task.result()

    async def _stream(self, send: Send) -> None:
        async with aclosing(self.pieces) as pieces:
            first = await anext(pieces, b"")
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _first(task: asyncio.Task[Any], receive: Receive) -> None:
    """Wait until `task` has ended, cancelling it when the caller leaves."""
    gone = asyncio.create_task(_left(receive), name="watch for a leaving caller")
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.wait({task, gone})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
