"""The server on port 8000: the compat WebSocket, health with the conversations held, metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, WebSocket

from compat_ws.call import Converse, converse, serve_call
from compat_ws.equipment import Equipment, places_for
from compat_ws.garbage import sweep
from conversation.latency import LatencyHistograms
from engines.select import Chosen
from library import LibraryError
from services.http import create_app
from services.metrics import conversation_gauges
from services.serving import Serving
from settings import Settings

logger = logging.getLogger("voice_node.compat_ws")


def create(settings: Settings, engines: Chosen, begin: Converse = converse) -> FastAPI:
    """The app.

    Args:
        settings: Addresses, keys, limits.
        engines: What listens, answers and speaks; closed with the app.
        begin: Makes the conversation of a socket.
    """
    places = places_for(settings, engines)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            equipment = await Equipment.open(settings, engines, places, histograms)
        except LibraryError as error:
            logger.error("%s", error)
            raise
        app.state.equipment = equipment
        tasks = [asyncio.create_task(equipment.warm_up()), asyncio.create_task(sweep(), name="garbage")]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await equipment.aclose()

    async def health() -> tuple[bool, dict[str, Any]]:
        equipment: Equipment = app.state.equipment
        return await equipment.health()

    app = create_app("Voice Node WebSocket", settings, health=health, lifespan=lifespan)
    registry = app.state.metrics.registry
    histograms = LatencyHistograms(registry)
    conversation_gauges(registry, "websocket", lambda: places.held, lambda: places.limit)
    Serving(registry, engines.stt, engines.chat, engines.tts)

    @app.websocket("/ws/{session_id}")
    async def call(ws: WebSocket, session_id: str) -> None:
        await serve_call(ws, session_id, app.state.equipment, begin)

    return app
