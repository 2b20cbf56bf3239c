"""WebSocket manners shared by all parts: who may connect, how an error is told, which close code fits.

A refused socket is accepted first and then told why: a browser shows nothing of a refusal during the handshake.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from engines.types import EngineBadInput, EngineError
from services.errors import ApiError
from services.gate import pass_key
from services.keys import origin_allowed
from settings import Settings

WRONG_DATA = 1003
REFUSED = 1008
TOO_BIG = 1009
FULL = 1013
UNKNOWN = 4404

SEND_DEADLINE = 30.0
"""Seconds after which a client that reads nothing is given up."""

GONE = (WebSocketDisconnect, RuntimeError, OSError)
"""What sending to a client that has left raises: by its own close, after our close, on a dead line."""


async def accept(ws: WebSocket, settings: Settings) -> bool:
    """Accept a WebSocket whose key and Origin are good; tell a refused one why and close it with 1008.

    One who comes too often is closed with 1013.

    Args:
        ws: Not yet accepted.
        settings: Hold `API_KEYS` and `CORS_ORIGINS`.

    Returns:
        Whether the caller may go on.
    """
    await ws.accept()
    if not origin_allowed(ws.headers.get("origin"), settings):
        await ws_error(ws, "forbidden", "Pages of this origin may not connect; add it to CORS_ORIGINS.", REFUSED)
        return False
    rates = ws.app.state.rates
    try:
        if not pass_key(ws, settings, rates):
            message = "A key of API_KEYS is needed: 'Authorization: Bearer KEY' or ?api_key=KEY."
            await ws_error(ws, "unauthorized", message, REFUSED)
            return False
        rates.call(ws)
    except ApiError as refusal:
        await ws_error(ws, refusal.code, refusal.message, FULL)
        return False
    return True


async def count_call(ws: WebSocket) -> bool:
    """Count something that a WebSocket's caller asks for; one who asks too often is told so, and closed with 1013."""
    try:
        ws.app.state.rates.call(ws)
    except ApiError as refusal:
        await ws_error(ws, refusal.code, refusal.message, FULL)
        return False
    return True


async def ws_error(ws: WebSocket, code: str, message: str, close: int | None = None) -> None:
    """Tell the client what went wrong, and close the socket where `close` gives a code.

    A client that has left in the meantime is no error.
    """
    if not connected(ws):
        return
    try:
        async with asyncio.timeout(SEND_DEADLINE):
            await ws.send_text(json.dumps({"type": "error", "code": code, "message": message}))
            if close is not None:
                # A close frame holds 125 bytes, two of them the code.
                reason = message.encode()[:123].decode(errors="ignore")
                await ws.close(close, reason)
    except (*GONE, TimeoutError):
        return


async def ws_engine_error(ws: WebSocket, error: EngineError, *, close: bool) -> None:
    """Tell the client about an engine's error; with `close` also close with the code that fits it."""
    await ws_error(ws, error.code, error.message, close_code(error) if close else None)


def close_code(error: EngineError) -> int:
    """The close code for an engine's error: wrong data, or try again later."""
    return WRONG_DATA if isinstance(error, EngineBadInput) else FULL


async def send_json(ws: WebSocket, message: dict[str, Any]) -> None:
    """Send one text message.

    Raises:
        TimeoutError: The client read nothing for `SEND_DEADLINE` seconds.
    """
    async with asyncio.timeout(SEND_DEADLINE):
        await ws.send_text(json.dumps(message))


async def send_bytes(ws: WebSocket, data: bytes) -> None:
    """Send one binary message.

    Raises:
        TimeoutError: The client read nothing for `SEND_DEADLINE` seconds.
    """
    async with asyncio.timeout(SEND_DEADLINE):
        await ws.send_bytes(data)


def connected(ws: WebSocket) -> bool:
    """Whether neither side has closed the socket yet."""
    return ws.application_state is WebSocketState.CONNECTED and ws.client_state is WebSocketState.CONNECTED


async def unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a WebSocket to a path that isn't there: accept, error, close 4404."""
    ws = WebSocket(scope, receive, send)
    await ws.accept()
    await ws_error(ws, "not_found", "There is no WebSocket at this path.", UNKNOWN)
