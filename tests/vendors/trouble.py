"""What can go wrong at a vendor, switched on and off by a test, and the servers' running on free loopback ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KEY = "key-of-the-tests-never-to-be-logged"


@dataclass
class Trouble:
    """Set one field, and calls from then on meet it."""

    status: int = 0
    """Refuse with this HTTP status."""
    body: Any = None
    """The refusal's JSON."""
    headers: dict[str, str] = field(default_factory=dict)
    hangs_after: int | None = None
    """Pieces of an answer after which nothing comes any more; 0: not even a beginning."""
    cut_after: int | None = None
    """Pieces of an answer after which the line is cut."""
    ends_after: int | None = None
    """Pieces of an answer after which it ends as if it were whole."""
    breaks_after: int | None = None
    """Pieces of an answer after which the vendor reports an error in it."""

    def clear(self) -> None:
        """All is well again."""
        self.__init__()  # type: ignore[misc]


async def forever() -> None:
    """Hang, until the server stops."""
    await asyncio.Event().wait()


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The app on a free port; gives its HTTP address."""
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
