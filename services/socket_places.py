"""How many WebSockets one caller may have open at once, so that none takes them all."""

from __future__ import annotations

from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from services.callers import counted_caller
from services.sockets import FULL, ws_error
from settings import Settings


class SocketPlaces:
    """Middleware that refuses a caller's further WebSockets with `full` and 1013.

    Args:
        app: Serves those that are let in.
        settings: Hold the limit, and the keys by which callers are told apart.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        limit = self.settings.limits.sockets_per_caller
        if scope["type"] != "websocket" or not limit:
            await self.app(scope, receive, send)
            return
        ws = WebSocket(scope, receive, send)
        caller = counted_caller(ws, self.settings)
        if caller is None:
            await self.app(scope, receive, send)
        elif self.open[caller] >= limit:
            await ws.accept()
            await ws_error(ws, "full", f"You have {limit} WebSockets open already; close one first.", FULL)
        else:
            self.open[caller] += 1
            try:
                await self.app(scope, receive, send)
            finally:
                self.open[caller] -= 1
                if not self.open[caller]:
                    del self.open[caller]
