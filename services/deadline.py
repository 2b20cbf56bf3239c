"""No call hangs: an answer begins within its time once the request is there, and goes on while it is made.

Uploading has a pace of its own (`body_limit.py`), and so has a caller who reads slowly (`http_protocol.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import ApiError

logger = logging.getLogger("voice_node.services")


class Deadline:
    """Middleware that ends what can't be finished: with 504 before the answer has begun, by hanging up afterwards.

    Args:
        app: What is timed.
        seconds: For the answer to begin after the whole request was read, and for each piece of it.
        extra: Seconds on top for single paths.
    """

    def __init__(self, app: ASGIApp, seconds: float, extra: Mapping[str, float]) -> None:
        self.app = app
        self.seconds = seconds
        self.extra = extra

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            ApiError: Its time was over before the answer had begun.
            TimeoutError: It was over afterwards.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seconds = self.seconds + self.extra.get(scope["path"], 0.0)
        loop = asyncio.get_running_loop()
        read = started = False

        def give(more: float | None) -> None:
            if not limit.expired():
                limit.reschedule(None if more is None else loop.time() + more)

        async def received() -> Message:
            nonlocal read
            if read:
                return await receive()  # which waits for the caller to leave
            give(None)
            message = await receive()
            read = not message.get("more_body", False)
            give(seconds)
            return message

        async def sent(message: Message) -> None:
            nonlocal started
            started = True
            give(None)
            await send(message)
            give(seconds)

        try:
            async with asyncio.timeout(seconds) as limit:
                await self.app(scope, received, sent)
        except TimeoutError:
            if not limit.expired():
                raise
            logger.warning("a call took too long", extra={"path": _shown(scope), "seconds": seconds})
            if started:
                raise
            raise ApiError(
                504, "timeout", f"There was no answer within {seconds:g} seconds; try again later."
            ) from None


def _shown(scope: Scope) -> str:
    """The route's template: what stands in a path may name a conversation."""
    return getattr(scope.get("route"), "path", None) or "unknown"
