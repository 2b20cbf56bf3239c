"""Refuses request bodies that are too big, whether announced or found out while reading, or that trickle in."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE = 20.0
"""Seconds that a body may take whatever its size."""

PACE = 4096
"""Bytes a second that a larger one must come with, on the whole."""


class BodyLimit:
    """Middleware that answers 413 to a body of more than `limit` bytes, 408 to one that comes too slowly, and stops
    reading it.

    The framework's own limit answers in its own words, which aren't the contract's.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; the refusal is raised where the body is read, as `HTTPException`."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > self.limit:
            raise HTTPException(413)
        loop = asyncio.get_running_loop()
        read, waited, whole = 0, 0.0, False

        async def counted() -> Message:
            nonlocal read, waited, whole
            if whole:
                return await receive()  # which waits for the caller to leave
            began = loop.time()
            try:
                async with asyncio.timeout(PATIENCE + read / PACE - waited):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408) from None
            waited += loop.time() - began
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if read > self.limit:
                    raise HTTPException(413)
            return message

        await self.app(scope, counted, send)
