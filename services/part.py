"""What the three engine services share: an engine that starts in the background, its health, its numbers, its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any, Generic, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from prometheus_client import Gauge, Histogram

from engines.types import Engine, EngineError, Health, Kind
from library import Library, LibraryError, SessionIdError
from services.announcing import announce
from services.errors import ApiError, error_response
from services.http import BODY_LIMIT, create_app
from services.metrics import SPEECH_BUCKETS
from services.serving import Serving
from settings import Settings

logger = logging.getLogger("voice_node.services")

FIRST_RETRY = 1.0
LONGEST_RETRY = 15.0
CLOSE_DEADLINE = 2.0

E = TypeVar("E", bound=Engine)
T = TypeVar("T")


class Part(Generic[E]):
    """One service's engine and, where it needs one, the library.

    Both are opened in the background, again and again until it works; `/health` says what is in the way meanwhile.

    Args:
        kind: Which of the three services.
        title: Name of the app.
        settings: The process's settings.
        engine: Not yet started; the part starts and closes it.
        with_library: Whether the service reads or writes the database.
        body_limit: Largest request body in bytes.
        longer: Seconds on top of `ANSWER_WITHIN` for paths that may take them.

    Attributes:
        app: The FastAPI app, to which the service adds its paths.
        seconds: From a call to the engine's first result; observe it per call.
    """

    def __init__(
        self,
        kind: Kind,
        title: str,
        settings: Settings,
        engine: E,
        *,
        with_library: bool,
        body_limit: int = BODY_LIMIT,
        longer: Mapping[str, float] | None = None,
    ) -> None:
        self.kind = kind
        self.settings = settings
        self.engine = engine
        self._with_library = with_library
        self._library: Library | None = None
        self._others: dict[str, E] = {}
        self._ready = False
        self._reason = "starting"
        self.app: FastAPI = create_app(
            title, settings, health=self.health, lifespan=self._life, body_limit=body_limit, longer=longer
        )
        self.app.state.part = self
        self.app.add_exception_handler(LibraryError, _library_failed)
        self.app.add_exception_handler(SessionIdError, _bad_session)
        self.seconds = self._measure()

    def _measure(self) -> Histogram:
        registry = self.app.state.metrics.registry
        held = Gauge("voice_node_engine_calls_held", "Calls that the engine holds now", registry=registry)
        held.set_function(lambda: self.engine.capacity.held)
        limit = Gauge(
            "voice_node_engine_calls_limit", "Calls that the engine takes at once, 0: no limit", registry=registry
        )
        limit.set_function(lambda: self.engine.capacity.limit or 0)
        Serving(registry, self.engine)
        return Histogram(
            "voice_node_engine_first_result_seconds",
            "From a call to the first text or sound of the engine",
            buckets=SPEECH_BUCKETS,
            registry=registry,
        )

    @property
    def library(self) -> Library:
        """The opened library.

        Raises:
            ApiError: It isn't open yet, or can't be opened (503 with the reason).
        """
        if self._library is None:
            raise ApiError(503, "unavailable", f"The database isn't open yet: {self._reason}", {"Retry-After": "1"})
        return self._library

    def also(self, name: str, build: Callable[[], E]) -> E:
        """A further engine that one of the service's paths is for; made when first asked for, closed with the part.

        Raises:
            EngineNotConfigured: It can't be built; says what to do.
        """
        if name not in self._others:
            self._others[name] = build()
        return self._others[name]

    async def timed(self, results: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The results of one call, the time to the first of them noted."""
        began = time.perf_counter()
        waiting = True
        async with aclosing(results):
            async for result in results:
                if waiting:
                    waiting = False
                    self.seconds.observe(time.perf_counter() - began)
                yield result

    async def health(self) -> tuple[bool, Mapping[str, Any]]:
        """Whether the service can serve, with its engine and capacity."""
        health = await self.engine.health() if self._ready else Health(False, self._reason)
        if health.ok and self._library is not None and (trouble := await self._library.database.trouble()):
            health = Health(False, trouble)
        fields: dict[str, Any] = {
            "part": self.kind,
            "engine": asdict(self.engine.info),
            "capacity": asdict(self.engine.capacity),
        }
        if health.reason:
            fields["reason"] = health.reason
        return health.ok, fields

    @asynccontextmanager
    async def _life(self, _: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(self._open(), name=f"open the {self.kind} service")
        announcing = asyncio.create_task(
            announce(self.settings, self.kind, lambda: self.engine.capacity), name=f"announce the {self.kind} service"
        )
        try:
            yield
        finally:
            opening.cancel()
            announcing.cancel()
            await asyncio.wait({opening})
            await asyncio.wait({announcing}, timeout=CLOSE_DEADLINE)
            await self._close()

    async def _open(self) -> None:
        pause = FIRST_RETRY
        while not self._ready:
            try:
                if self._with_library and self._library is None:
                    self._library = await Library.open(self.settings)
                await self.engine.start()
            except (EngineError, LibraryError) as error:
                self._reason = str(error)
                logger.error("not ready", extra={"part": self.kind, "reason": self._reason, "again_in": pause})
            except Exception:
                self._reason = "the engine failed to start; the service's log says why"
                logger.exception("not ready", extra={"part": self.kind, "again_in": pause})
            else:
                self._ready = True
                info = self.engine.info
                logger.info("ready", extra={"part": self.kind, "engine": info.name, "model": info.model})
                return
            await asyncio.sleep(pause)
            pause = min(LONGEST_RETRY, pause * 2)

    async def _close(self) -> None:
        for engine in (self.engine, *self._others.values()):
            try:
                async with asyncio.timeout(CLOSE_DEADLINE):
                    await engine.aclose()
            except Exception:
                logger.exception("engine did not close", extra={"part": self.kind, "engine": engine.info.name})
        if self._library is not None:
            await self._library.aclose()


async def _library_failed(_: Request, error: Exception) -> JSONResponse:
    return error_response(ApiError(503, "unavailable", str(error), {"Retry-After": "5"}))


async def _bad_session(_: Request, error: Exception) -> JSONResponse:
    return error_response(ApiError(400, "bad_request", f"session_id: {error}"))
