"""The token server put together: page, tokens, catalog, health, and the dispatch watch for as long as it runs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from prometheus_client import Counter

from engines.select import only_through_service
from library import LeaseHolder, Library, LibraryError
from services.errors import error_response
from services.http import ApiError, create_app
from settings import Settings
from settings.livekit_keys import livekit_keys
from token_server.addresses import server_url
from token_server.admission import Admission
from token_server.catalog import catalog
from token_server.dispatch_watch import DispatchWatch
from token_server.health import PartsHealth
from token_server.page import BUILT, PUBLIC_PATHS, mount_page
from token_server.signalling import LARGEST, LONGEST_ADDRESS, Signalling, add_signalling
from token_server.signalling import PUBLIC_PATHS as SIGNALLING_PATHS
from token_server.tokens import TokenRequest, signed, understood

BODY_LIMIT = 256 * 1024

RETRY_DATABASE = 3
"""Seconds after which a caller is told to try again where the database fails."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What is open while the server runs."""

    library: Library
    admission: Admission
    parts: PartsHealth
    watch: DispatchWatch
    signalling: Signalling


def build(settings: Settings, *, page: Path = BUILT) -> FastAPI:
    """The app; run it with `services.http.serve`.

    Args:
        settings: The settings tree.
        page: The built page.

    Raises:
        KeysError: The LiveKit keys cannot be used.
    """
    keys = livekit_keys(settings)

    def opened() -> Opened:
        found: Opened = app.state.opened
        return found

    async def health() -> tuple[bool, Mapping[str, Any]]:
        database = await opened().parts.database()
        fields = {} if database["ok"] else {"reason": database["reason"]}
        if trouble := opened().watch.trouble:
            fields["watch"] = trouble
        return database["ok"], fields

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            library = await Library.open(settings)
            stack.push_async_callback(library.aclose)
            # It holds no conversation; that it can renew tells whether those who do can.
            announced = LeaseHolder(library, "page", 0)
            await announced.start()
            stack.push_async_callback(announced.aclose)
            parts = PartsHealth(settings, library.leases, announced)
            stack.push_async_callback(parts.aclose)
            watch = DispatchWatch(
                library.leases,
                announced,
                settings.livekit_url,
                keys,
                dispatched=lambda reason: sent.labels(reason).inc(),
            )
            stack.push_async_callback(watch.aclose)
            signalling = Signalling(settings.livekit_url)
            stack.push_async_callback(signalling.aclose)
            admission = Admission(library.leases, announced, only_through_service(settings))
            app.state.opened = Opened(library, admission, parts, watch, signalling)
            yield

    ours = not settings.livekit.livekit_url
    """Whether livekit-server is one of our parts, whose signalling is passed on; clients reach another one directly."""
    app = create_app(
        "Voice Node page",
        settings,
        health=health,
        public_paths=(*PUBLIC_PATHS, *(SIGNALLING_PATHS if ours else ())),
        lifespan=running,
        body_limit=BODY_LIMIT,
        message_limit=LARGEST,
        longest_address=LONGEST_ADDRESS,
    )
    sent = Counter(
        "voice_node_redispatches",
        "Agents sent into rooms that had lost theirs or never got one",
        ("reason",),
        registry=app.state.metrics.registry,
    )

    @app.exception_handler(LibraryError)
    async def library_away(_: Request, error: LibraryError) -> JSONResponse:
        # What it says is for whoever runs the server, and is in the log and on /api/health.
        message = f"The server's database doesn't answer; try again in {RETRY_DATABASE} seconds."
        return error_response(ApiError(503, "unavailable", message, {"Retry-After": str(RETRY_DATABASE)}))

    @app.post("/api/token", status_code=201)
    async def token(request: Request, asked: TokenRequest | None = None) -> JSONResponse:
        """LiveKit's standard token endpoint."""
        visit = understood(asked or TokenRequest())
        await opened().admission.admit(visit.room)
        body = {"server_url": server_url(request, settings), "participant_token": signed(visit, keys)}
        return JSONResponse(body, 201)

    @app.get("/api/health")
    async def everything() -> JSONResponse:
        """Every part's health in one answer."""
        ok, parts = await opened().parts.all()
        body = {"status": "ok" if ok else "unavailable", "at": time.time(), "parts": parts}
        return JSONResponse(body, 200 if ok else 503)

    app.include_router(catalog(lambda: opened().library))
    if ours:
        add_signalling(app, lambda: opened().signalling)
    mount_page(app, settings, page)
    return app
