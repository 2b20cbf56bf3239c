"""The worker's own page: `/health` and `/metrics`, with the turns of all its jobs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from starlette.responses import RedirectResponse

from agent.places import Places
from agent.turns import TURN_LOGGER, TurnCounter
from conversation.latency import LatencyHistograms
from library.leases import LeaseHolder
from services.http import create_app, make_server
from services.metrics import conversation_gauges
from services.server import Server
from settings import Settings


class _PageServer(Server):
    """uvicorn beside the worker, whose the signals are."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def worker_metrics(registry: CollectorRegistry, places: Places, connected: Callable[[], bool]) -> TurnCounter:
    """Add what a worker has beside the metrics of every part; gives what counts the turns among its log lines."""
    conversation_gauges(registry, "room", lambda: places.held, lambda: places.limit)
    known = Gauge("voice_node_livekit_connected", "Whether livekit-server sends this worker rooms", registry=registry)
    known.set_function(connected)
    return TurnCounter(LatencyHistograms(registry))


@asynccontextmanager
async def health_page(
    settings: Settings, sock: socket.socket, places: Places, connected: Callable[[], bool], announced: LeaseHolder
) -> AsyncIterator[None]:
    """Serve the page while the block runs.

    Args:
        settings: Keys and origins.
        sock: Bound to the page's address.
        places: What the worker holds.
        connected: Whether livekit-server knows the worker, so that it is given rooms.
        announced: How the worker tells in the database that it is there.
    """

    async def health() -> tuple[bool, Mapping[str, Any]]:
        fields: dict[str, Any] = {"held": places.held, "limit": places.limit}
        if not connected():
            fields["reason"] = f"not connected to livekit-server at {settings.livekit_url}: is it running?"
        elif announced.trouble:
            fields["reason"] = announced.trouble
        return "reason" not in fields, fields

    app = create_app("Voice Node agent", settings, health=health, public_paths=("/",))

    @app.get("/")
    async def customary() -> RedirectResponse:
        """Where LiveKit's workers have their health."""
        return RedirectResponse("/health")

    counter = worker_metrics(app.state.metrics.registry, places, connected)
    turns = logging.getLogger(TURN_LOGGER)
    turns.addHandler(counter)
    server = _PageServer(make_server(app).config)
    serving: Awaitable[None] = asyncio.create_task(server.serve(sockets=[sock]), name="health page")
    try:
        yield
    finally:
        turns.removeHandler(counter)
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving
