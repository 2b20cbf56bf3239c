"""What the three kinds of running service have in common for their callers: address, key, health, pooled sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.protocol import State

from engines import wire
from engines.chores import Chores
from engines.types import Capacity, EngineError, EngineInfo, EngineUnavailable, Health, Kind
from settings import Settings

CONNECT_DEADLINE = 2.0
HEALTH_DEADLINE = 0.9
PING_EVERY, PONG_WITHIN = 5.0, 5.0
"""Seconds between pings on each socket, and for their answers: a socket whose service froze or vanished is closed by
them while nobody asks it; calls under way have the shorter deadlines of their kind (engines/fallback.py)."""
TELL_WITHIN = 0.2
"""Seconds for the word that a call is over: a service that reads nothing isn't waited for."""
IDLE_SOCKETS = 16
"""Open sockets kept for the next call."""


class SocketPool:
    """WebSockets to one path of a service, used by one call at a time and kept open for the next.

    Args:
        kind: Which service it is, for messages.
        url: Its HTTP address.
        path: The WebSocket's path.
        headers: Sent with every handshake.
    """

    def __init__(self, kind: Kind, url: str, path: str, headers: dict[str, str]) -> None:
        self._kind = kind
        self._url = url
        # http -> ws, https -> wss.
        self._address = "ws" + url.removeprefix("http") + path
        self._headers = headers
        self._idle: list[ClientConnection] = []
        self._chores = Chores(f"{kind} service socket")
        self._closed = False

    async def take(self, *, fresh: bool = False) -> ClientConnection:
        """An open socket that nobody else uses; `give_back` or `drop` it afterwards.

        Args:
            fresh: Open a new one, after one from the pool turned out dead.

        Raises:
            EngineUnavailable: The service doesn't answer.
        """
        if self._closed:
            raise EngineUnavailable("This engine has been closed.")
        while self._idle and not fresh:
            socket = self._idle.pop()
            if socket.state is State.OPEN:
                return socket
        try:
            return await connect(
                self._address,
                additional_headers=self._headers,
                # Our own services aren't reached through the web proxy of the environment.
                proxy=None,
                compression=None,
                open_timeout=CONNECT_DEADLINE,
                close_timeout=1,
                ping_interval=PING_EVERY,
                ping_timeout=PONG_WITHIN,
                # What has come is kept here, so that a slow listener never holds a place in the service.
                max_queue=None,
                max_size=None,
            )
        except (OSError, WebSocketException, TimeoutError) as error:
            raise wire.not_running(self._kind, self._url, _short(error)) from error

    def give_back(self, socket: ClientConnection) -> None:
        """Keep a socket, on which nothing is under way, for the next call."""
        if self._closed or socket.state is not State.OPEN or len(self._idle) >= IDLE_SOCKETS:
            self.drop(socket)
        else:
            self._idle.append(socket)

    def drop(self, socket: ClientConnection) -> None:
        """Close a socket without waiting for it."""
        self.aside(socket.close())

    async def called_off(self, socket: ClientConnection) -> bool:
        """Tell the service that a call is over, here and now, so that its place is free at once.

        Returns:
            Whether the word went out; if not, the service doesn't read, and the socket is of no more use.
        """
        try:
            async with asyncio.timeout(TELL_WITHIN):
                await socket.send(text_message(type=wire.CANCEL))
        except (TimeoutError, ConnectionClosed):
            return False
        return True

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, such as tidying a socket, without anyone waiting for it."""
        self._chores.do(work)

    async def aclose(self) -> None:
        """Close all idle sockets; those in use are closed when they come back."""
        self._closed = True
        while self._idle:
            self.drop(self._idle.pop())
        await self._chores.aclose()


class ServiceEngine:
    """A running service of ours as an engine: what it is, how it is, and its HTTP client.

    Args:
        kind: Which of the three.
        url: HTTP address, without a slash at its end.
        api_key: Sent as `Authorization: Bearer`, where not empty.
    """

    kind: Kind

    def __init__(self, url: str, api_key: str = "") -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.held = 0
        self._behind: dict[str, Any] = {}
        self._limit: int | None = None
        self.http = httpx.AsyncClient(
            base_url=url,
            headers=self.headers,
            trust_env=False,
            timeout=httpx.Timeout(60.0, connect=CONNECT_DEADLINE, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=60.0),
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The service of this kind that the settings name."""
        keys = settings.network.api_keys
        return cls(settings.service_url(cls.kind), settings.engines.service_api_key or (keys[0] if keys else ""))

    @property
    def info(self) -> EngineInfo:
        """What the service said that it runs, once it has been asked."""
        return EngineInfo(
            self.kind,
            "service",
            str(self._behind.get("model", f"{wire.SERVICE_NAMES[self.kind]} service")),
            self.url,
            str(self._behind.get("license", "that of the service's engine")),
            bool(self._behind.get("paid", False)),
        )

    @property
    def capacity(self) -> Capacity:
        """Our own calls under way, and the service's limit when it was last asked."""
        return Capacity(self.held, self._limit)

    async def start(self) -> None:
        """Ask the service whether it is ready.

        Raises:
            EngineUnavailable: It isn't; the message says how to start it.
        """
        health = await self.health()
        if not health.ok:
            raise EngineUnavailable(health.reason)

    async def health(self) -> Health:
        """The service's own answer on `/health`."""
        try:
            async with asyncio.timeout(HEALTH_DEADLINE):
                answer = await self.http.get(wire.HEALTH)
                body = answer.json()
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            return Health(False, wire.not_running(self.kind, self.url, _short(error)).message)
        self._behind = body.get("engine") or {}
        self._limit = (body.get("capacity") or {}).get("limit")
        if answer.status_code == 200:
            return Health(True)
        reason = body.get("reason") or wire.error_in(answer.content)[1]
        return Health(False, f"The {wire.SERVICE_NAMES[self.kind]} service at {self.url} isn't ready: {reason}")

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    def lost(self, error: Exception) -> EngineUnavailable:
        """The engine error for a connection that broke off."""
        return wire.not_running(self.kind, self.url, _short(error))

    async def refused(self, answer: httpx.Response) -> EngineError:
        """The engine error for an HTTP answer that isn't 200; reads its body."""
        code, message = wire.error_in(await answer.aread())
        wait = answer.headers.get("retry-after", "")
        return wire.error_from(code, message, float(wait) if wait.isdigit() else None)


def text_message(**fields: Any) -> str:
    """A text message; fields that are None are left out."""
    return json.dumps({name: value for name, value in fields.items() if value is not None})


def _short(error: Exception) -> str:
    """An error in few words, for a sentence about it."""
    return f"{type(error).__name__}: {error}".strip().rstrip(":").rstrip(".")[:160]
