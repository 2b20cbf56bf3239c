"""The common ground of every FastAPI part: errors, keys, origins, rates, limits, deadlines, `/health`, `/metrics`.

Use:

    app = create_app("Voice Node STT", settings, health=health, lifespan=lifespan)

    @app.post("/things", dependencies=[Depends(require_admin)])
    async def things() -> ...:
        raise ApiError(404, "not_found", "There is no such thing; GET /things lists them.")

    @app.websocket("/live")
    async def live(ws: WebSocket) -> None:
        if not await accept(ws, settings):
            return
        await ws_error(ws, "full", "Every place is taken; try again later.", FULL)

    raise SystemExit(serve(app, host, port, settings.operations.log_level, setting="STT_PORT"))

`app.state.settings` and `app.state.metrics` (a `services.metrics.Metrics`) are there for handlers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engines import wire
from services import errors
from services.body_limit import BodyLimit
from services.cross_origin import CrossOrigin
from services.deadline import Deadline
from services.errors import ApiError, error_body
from services.gate import Gate, require_admin
from services.http_protocol import LINE_LIMIT
from services.loop_watch import watched_loop
from services.metrics import Measured, Metrics
from services.rates import Rates
from services.server import bind, make_server, serve
from services.socket_places import SocketPlaces
from services.sockets import (
    FULL,
    REFUSED,
    TOO_BIG,
    UNKNOWN,
    WRONG_DATA,
    accept,
    send_bytes,
    send_json,
    unknown_path,
    ws_engine_error,
    ws_error,
)
from services.watchdog_counter import WatchdogCounter
from settings import Settings

__all__ = [
    "FULL",
    "REFUSED",
    "TOO_BIG",
    "UNKNOWN",
    "WRONG_DATA",
    "ApiError",
    "Metrics",
    "accept",
    "bind",
    "create_app",
    "error_body",
    "make_server",
    "require_admin",
    "send_bytes",
    "send_json",
    "serve",
    "ws_engine_error",
    "ws_error",
]

Health = Callable[[], Awaitable[tuple[bool, Mapping[str, Any]]]]

BODY_LIMIT = 4 * 1024 * 1024

MAX_FILES, MAX_FIELDS, MAX_FIELD = 4, 32, 64 * 1024
"""Parts of a form, and bytes of one that is no file."""


def create_app(
    title: str,
    settings: Settings,
    *,
    health: Health,
    public_paths: Sequence[str] = (),
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
    body_limit: int = BODY_LIMIT,
    message_limit: int = wire.LARGEST_MESSAGE,
    longest_address: int = LINE_LIMIT,
    longer: Mapping[str, float] | None = None,
) -> FastAPI:
    """A FastAPI app that keeps the wire contract's common rules.

    Args:
        title: Name of the part, shown in logs.
        settings: Keys and origins are read from here; kept as `app.state.settings`.
        health: Gives whether the part can serve, and JSON fields for the answer; where it can't, put the cause and
            the fix into `reason`.
        public_paths: Paths that need no key; one that ends in `*` opens everything below it.
        lifespan: Runs around the app's life, as FastAPI's own.
        body_limit: Largest request body in bytes; more is refused with 413.
        message_limit: Largest WebSocket message in bytes; more is refused with 1009.
        longest_address: Bytes of a request's path and query; more is refused with 414.
        longer: Seconds on top of `ANSWER_WITHIN` for paths that may take them.
    """
    metrics = Metrics()
    app = FastAPI(
        title=title,
        lifespan=_watched(lifespan, WatchdogCounter(metrics.registry), metrics),
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        form_limits={"max_files": MAX_FILES, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD},
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.message_limit = message_limit
    app.state.longest_address = longest_address
    app.state.rates = rates = Rates(settings)
    errors.install(app)
    _unknown_sockets(app)
    # The last one added is the outermost: refusals and failures carry CORS headers and are counted too.
    app.add_middleware(BodyLimit, limit=body_limit)
    app.add_middleware(Gate, settings=settings, rates=rates, public_paths=public_paths)
    app.add_middleware(Deadline, seconds=settings.limits.answer_within, extra=longer or {})
    app.add_middleware(SocketPlaces, settings=settings)
    app.add_middleware(errors.Caught)
    app.add_middleware(Measured, metrics=metrics)
    app.add_middleware(CrossOrigin, settings=settings)

    @app.get("/health")
    async def healthy() -> JSONResponse:
        ok, fields = await health()
        return JSONResponse({"status": "ok" if ok else "unavailable", **fields}, 200 if ok else 503)

    @app.get("/metrics")
    async def measured() -> Response:
        return await metrics.page()

    return app


def _watched(
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None,
    counter: WatchdogCounter,
    metrics: Metrics,
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The app's life with its event loop watched and measured, and with what happens counted."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with counter.counting():
            async with metrics.measuring(), watched_loop(), lifespan(app) if lifespan is not None else nullcontext():
                yield

    return life


def _unknown_sockets(app: FastAPI) -> None:
    """Let unknown WebSocket paths be told so, in place of a bare refusal of the handshake."""
    otherwise = app.router.default

    async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await unknown_path(scope, receive, send)
        else:
            await otherwise(scope, receive, send)

    app.router.default = nothing_here
