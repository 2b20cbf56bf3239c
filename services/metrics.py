"""Numbers of one HTTP part for Prometheus: requests and their times by route, open WebSockets, the event loop's lag.

What happens in conversations is in engines/tally.py, their turns in conversation/latency.py. Each app has a registry of
its own, so that several apps, or tests, live in one process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.child_processes import ChildProcesses
from services.tally_counter import TallyCounter

SPEECH_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2, 5, 10, 30)
"""Seconds; close together where a person begins to notice that an answer is late."""

LAG_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
LAG_EVERY = 0.5
"""Seconds between looks how late the event loop is."""

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metrics:
    """The registry of one app and the measures every part has; add your own with `registry=metrics.registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(ChildProcesses())
        self.happenings = TallyCounter(self.registry)
        self.requests = Counter(
            "voice_node_requests", "HTTP requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.first_byte = Histogram(
            "voice_node_first_byte_seconds",
            "From a request's arrival to the start of its answer",
            ("method", "route"),
            buckets=SPEECH_BUCKETS,
            registry=self.registry,
        )
        self.whole = Histogram(
            "voice_node_request_seconds",
            "From a request's arrival to the end of its answer",
            ("method", "route"),
            buckets=SPEECH_BUCKETS,
            registry=self.registry,
        )
        self.sockets = Gauge("voice_node_sockets_open", "WebSockets open now", ("route",), registry=self.registry)
        self.sockets_opened = Counter(
            "voice_node_sockets_opened", "WebSockets opened", ("route",), registry=self.registry
        )

        self.lag = Histogram(
            "voice_node_event_loop_lag_seconds",
            "How much later than asked for the event loop woke a task",
            buckets=LAG_BUCKETS,
            registry=self.registry,
        )

    async def page(self) -> Response:
        """The text that Prometheus reads; made in a thread, since it looks at processes."""
        text = await asyncio.to_thread(generate_latest, self.registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    @asynccontextmanager
    async def measuring(self) -> AsyncIterator[None]:
        """Count happenings and measure the running loop's lag while the block runs."""
        watching = asyncio.create_task(self._watch_lag(), name="event loop lag")
        try:
            with self.happenings.counting():
                yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch_lag(self) -> None:
        while True:
            asleep = time.perf_counter()
            await asyncio.sleep(LAG_EVERY)
            self.lag.observe(max(0.0, time.perf_counter() - asleep - LAG_EVERY))


def conversation_gauges(
    registry: CollectorRegistry, transport: str, held: Callable[[], float], limit: Callable[[], float]
) -> None:
    """How many conversations a process holds and may hold, by what carries them."""
    now = Gauge("voice_node_conversations_held", "Conversations held now", ("transport",), registry=registry)
    now.labels(transport).set_function(held)
    most = Gauge("voice_node_conversations_limit", "Conversations held at most", ("transport",), registry=registry)
    most.labels(transport).set_function(limit)


def _route(scope: Scope) -> str:
    """The route's template; unknown paths share one name, so that strangers can't grow the registry."""
    return getattr(scope.get("route"), "path", None) or "unknown"


class Measured:
    """Middleware that counts and times what goes through it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection and note what it was and how long it took."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        first = began
        status = "500"

        async def watched(message: Message) -> None:
            nonlocal first, status
            if message["type"] == "http.response.start":
                first = time.perf_counter()
                status = str(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            labels = (scope["method"] if scope["method"] in _METHODS else "other", _route(scope))
            self.metrics.requests.labels(*labels, status).inc()
            self.metrics.first_byte.labels(*labels).observe(max(0.0, first - began))
            self.metrics.whole.labels(*labels).observe(time.perf_counter() - began)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        counted: str | None = None

        async def watched(message: Message) -> None:
            nonlocal counted
            if message["type"] == "websocket.accept" and counted is None:
                counted = _route(scope)
                self.metrics.sockets.labels(counted).inc()
                self.metrics.sockets_opened.labels(counted).inc()
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            if counted is not None:
                self.metrics.sockets.labels(counted).dec()
