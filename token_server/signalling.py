"""Passes signalling on to livekit-server, which speaks no TLS: `/rtc` and `/rtc/v1` WebSockets and their `/validate`.

So that one address, and one certificate, serves the page, the API and signalling. Every message goes on as it came, in
both directions; what livekit-server answers to a handshake, good or bad, is the client's answer; whichever side ends,
the other is ended with the same code. No key of ours is asked: livekit-server lets nobody in without a room token, on
all of these paths, from any origin.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import httpx
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import Response
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from services.errors import error_response
from services.http import ApiError
from services.sockets import GONE

PUBLIC_PATHS = ("/rtc/validate", "/rtc/v1/validate")

SHARE = 5
"""Sockets at once take, with livekit-server's ends of them, no more than one in so many of the process's files."""

LARGEST = 1024 * 1024
"""Bytes of a message: a session description or the state of a room takes some ten thousand."""

LONGEST_ADDRESS = 128 * 1024
"""Bytes of a handshake's address, which holds the token with all its metadata, and the first offer."""

OPEN_DEADLINE = 15.0
"""Seconds for livekit-server's answer to a handshake; LiveKit's clients wait as long."""

SEND_DEADLINE = 10.0
"""Seconds that either side may leave a message unread."""

CLOSE_DEADLINE = 1.0
VALIDATE_DEADLINE = 5.0

LONGEST_ANSWER = 64 * 1024
"""Bytes of an answer to `/validate`."""

GOING_AWAY = 1001
RESTARTED = 1012
_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})

_PASSED = ("authorization", "accept-language")
"""Headers of the client's that livekit-server looks at, besides `User-Agent`."""


class Signalling:
    """What stands between clients and one livekit-server.

    Args:
        url: livekit-server's address, `ws://host:port`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._held = 0
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = sys.maxsize if files == resource.RLIM_INFINITY else files // SHARE
        self._client = httpx.AsyncClient(timeout=VALIDATE_DEADLINE, trust_env=False)

    async def aclose(self) -> None:
        """Close what is kept open for plain requests; sockets end with the server."""
        await self._client.aclose()

    async def serve(self, ws: WebSocket) -> None:
        """Serve one socket to its end."""
        try:
            ws.app.state.rates.call(ws)
        except ApiError as refusal:
            await _refuse(ws, refusal)
            return
        if self._held >= self._most:
            await _refuse(ws, _away("Every signalling connection is taken.", 10))
            return
        self._held += 1
        try:
            await self._serve(ws)
        finally:
            self._held -= 1

    async def validate(self, request: Request) -> Response:
        """What livekit-server says of a token: clients ask it when a socket wasn't opened.

        Raises:
            ApiError: The caller asks too often, or livekit-server doesn't answer.
        """
        request.app.state.rates.call(request)
        address = httpx.URL(f"http{self._url[2:]}").copy_with(raw_path=_path(request.scope).encode("ascii"))
        try:
            async with (
                asyncio.timeout(VALIDATE_DEADLINE),
                self._client.stream("GET", address, headers=_headers(request.scope)) as answer,
            ):
                body = b""
                async for piece in answer.aiter_bytes():
                    body = (body + piece)[:LONGEST_ANSWER]
        except (httpx.HTTPError, TimeoutError):
            raise _away("livekit-server doesn't answer.", 2) from None
        kept = ("content-type", "access-control-allow-origin")
        return Response(
            body, answer.status_code, {name: answer.headers[name] for name in kept if name in answer.headers}
        )

    async def _serve(self, ws: WebSocket) -> None:
        await ws.receive()  # its wish to connect
        # Read on from here: a client that leaves meanwhile is noticed, and nothing it sends is lost.
        first = asyncio.create_task(ws.receive(), name="first of the client's messages")
        opening = asyncio.create_task(self._open(ws), name="signalling of livekit-server")
        try:
            await asyncio.wait({first, opening}, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                return
            try:
                server = opening.result()
            except ApiError as refusal:
                await _deny(ws, error_response(refusal))
                return
            except InvalidStatus as refusal:
                await _deny(ws, _answered(refusal))
                return
            await ws.accept()
            await _relay(ws, first, server)
        except GONE:
            pass  # the client left
        finally:
            for task in (first, opening):
                task.cancel()
            await asyncio.gather(first, opening, return_exceptions=True)
            if not opening.cancelled() and opening.exception() is None:
                await _hang_up(opening.result())

    async def _open(self, ws: WebSocket) -> ClientConnection:
        """livekit-server's end.

        Raises:
            InvalidStatus: It refuses, with its answer.
            ApiError: It isn't there.
        """
        headers = _headers(ws.scope)
        agent = headers.pop("user-agent", None)
        try:
            return await connect(
                f"{self._url}{_path(ws.scope)}",
                additional_headers=headers,
                user_agent_header=agent,
                compression=None,  # short messages on loopback
                proxy=None,
                open_timeout=OPEN_DEADLINE,
                close_timeout=CLOSE_DEADLINE,
                ping_interval=None,  # both ends ask each other in their own protocol
                max_size=LARGEST,
            )
        except InvalidStatus:
            raise
        except (OSError, InvalidHandshake, EOFError):
            raise _away("livekit-server doesn't answer.", 2) from None


def add_signalling(app: FastAPI, signalling: Callable[[], Signalling]) -> None:
    """Give the app the paths of livekit-server's signalling.

    Args:
        app: What they become part of.
        signalling: What is open while the app runs.
    """

    async def socket(ws: WebSocket) -> None:
        await signalling().serve(ws)

    async def validate(request: Request) -> Response:
        return await signalling().validate(request)

    for path in ("/rtc", "/rtc/v1"):
        app.add_api_websocket_route(path, socket)
        app.add_api_route(f"{path}/validate", validate, include_in_schema=False)


async def _relay(ws: WebSocket, first: asyncio.Task[Any], server: ClientConnection) -> None:
    """Pass messages on in both directions until one side ends, and end the other one likewise."""
    up = asyncio.create_task(_up(ws, first, server), name="signalling, client to livekit-server")
    down = asyncio.create_task(_down(ws, server), name="signalling, livekit-server to client")
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            await server.close(*up.result())
        else:
            await ws.close(*down.result())
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _up(ws: WebSocket, first: asyncio.Task[Any], server: ClientConnection) -> tuple[int, str]:
    """Pass the client's messages on; gives the code and reason with which livekit-server's end is to be closed."""
    message: Mapping[str, Any] = await first
    while message["type"] == "websocket.receive":
        content = message.get("bytes")
        content = message["text"] if content is None else content
        try:
            async with asyncio.timeout(SEND_DEADLINE):
                await server.send(content)
        except (ConnectionClosed, TimeoutError):
            await ws.close(*_end(server))
            return GOING_AWAY, ""
        message = await ws.receive()
    return _sendable(message.get("code")), message.get("reason") or ""


async def _down(ws: WebSocket, server: ClientConnection) -> tuple[int, str]:
    """Pass livekit-server's messages on; gives the code and reason with which the client's end is to be closed."""
    with contextlib.suppress(ConnectionClosed):
        async for content in _messages(server):
            try:
                async with asyncio.timeout(SEND_DEADLINE):
                    await (ws.send_text(content) if isinstance(content, str) else ws.send_bytes(content))
            except (*GONE, TimeoutError):
                return GOING_AWAY, "too slow"
    return _end(server)


async def _messages(server: ClientConnection) -> AsyncGenerator[str | bytes, None]:
    while True:
        yield await server.recv()


async def _hang_up(server: ClientConnection) -> None:
    with contextlib.suppress(OSError):
        await server.close(GOING_AWAY)


def _end(server: ClientConnection) -> tuple[int, str]:
    """How livekit-server ended; without a word where it died."""
    if server.close_code in (None, 1006):
        return RESTARTED, "livekit-server went away"
    return _sendable(server.close_code), server.close_reason or ""


def _sendable(code: int | None) -> int:
    """A close code as it may be sent; those that only say how a line ended become one of their meaning."""
    if code == 1005:
        return 1000
    return code if code is not None and (code in _CODES or 3000 <= code < 5000) else GOING_AWAY


async def _refuse(ws: WebSocket, refusal: ApiError) -> None:
    await ws.receive()
    await _deny(ws, error_response(refusal))


async def _deny(ws: WebSocket, response: Response) -> None:
    with contextlib.suppress(*GONE):
        await ws.send_denial_response(response)


def _answered(refusal: InvalidStatus) -> Response:
    """livekit-server's own answer to a handshake."""
    answer = refusal.response
    kind = answer.headers.get("Content-Type", "text/plain")
    return Response(bytes(answer.body or b"")[:LONGEST_ANSWER], answer.status_code, {"Content-Type": kind})


def _away(message: str, seconds: int) -> ApiError:
    return ApiError(503, "unavailable", f"{message} Try again in {seconds} s.", {"Retry-After": str(seconds)})


def _path(scope: Mapping[str, Any]) -> str:
    """Path and query as the client sent them."""
    query = scope["query_string"].decode("ascii")
    return f"{scope['path']}?{query}" if query else str(scope["path"])


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """What livekit-server is told of the client."""
    sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    kept = {name: sent[name] for name in (*_PASSED, "user-agent") if name in sent}
    if client := scope.get("client"):
        kept["x-forwarded-for"] = client[0]
    return kept
