"""How a socket ends: whatever ended it, the client is told in the contract's words and close codes."""

from __future__ import annotations

import contextlib
import logging

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from compat_ws.messages import WrongMessage
from compat_ws.microphone import TooFarAhead
from compat_ws.outbox import NotRead
from compat_ws.places import Full
from engines.tally import tally
from engines.types import EngineError
from library import LibraryError, SessionIdError
from services.http import FULL, REFUSED, TOO_BIG, WRONG_DATA, ws_engine_error, ws_error

logger = logging.getLogger("voice_node.compat_ws")

INTERNAL = 1011
"""Close code where something went wrong inside."""


class TooBig(Exception):
    """A message is larger than any we take."""


class Replaced(Exception):
    """Another socket, room or process holds the conversation now."""


async def tell_end(ws: WebSocket, session_id: str, why: BaseException) -> None:
    """Tell the client why its socket ends, and close it; a client that has left is told nothing."""
    match why:
        case WebSocketDisconnect():
            return
        case WrongMessage() | SessionIdError():
            await ws_error(ws, "bad_request", str(why), WRONG_DATA)
        case TooBig():
            await ws_error(ws, "too_big", str(why), TOO_BIG)
        case TooFarAhead():
            await ws_error(ws, "too_fast", str(why), REFUSED)
        case Replaced():
            await ws_error(ws, "replaced", str(why), REFUSED)
        case Full():
            tally("calls_refused", transport="websocket", reason="full")
            await ws_error(ws, "full", str(why), FULL)
        case EngineError():
            await ws_engine_error(ws, why, close=True)
        case LibraryError():
            logger.error("the library failed: %s", why, extra={"session": session_id})
            await ws_error(ws, "unavailable", "conversations can't be kept now; try again later", FULL)
        case NotRead():
            # An error message would wait behind what isn't read; the close goes out at once.
            with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):
                await ws.close(REFUSED, str(why))
        case _:
            logger.error("a conversation failed", exc_info=why, extra={"session": session_id})
            await ws_error(ws, "internal", "something went wrong inside; the log says what", INTERNAL)
    logger.info("socket closed", extra={"session": session_id, "reason": type(why).__name__})
