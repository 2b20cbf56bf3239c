"""The built page (web/dist) as static files: nothing from outside its folder, and headers that let it do only its own.

The bundler names files in `assets/` after their content, so those may be kept for ever; everything else is asked
for anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Match
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.sockets import unknown_path
from settings import Settings
from token_server.addresses import http_form, server_url

BUILT = Path(__file__).resolve().parent.parent / "web" / "dist"

PUBLIC_PATHS = ("/", "/index.html", "/favicon.svg", "/assets/*")

MISSING = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Voice Node</title>
<h1>The page isn't built yet</h1><p>Run <code>make setup</code>, then load this page again.</p>
</html>"""

_FIXED_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The address may name the conversation.
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), display-capture=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_SECURE = "max-age=31536000"
"""A browser that saw the page over TLS asks for it over nothing else for a year."""


class Page(StaticFiles):
    """`web/dist`, built or not yet.

    Args:
        folder: Where it is.
        others: Routes before it, whose paths are not the page's, whatever the method.
    """

    def __init__(self, folder: Path, others: Sequence[BaseRoute]) -> None:
        super().__init__(directory=folder, html=True, check_dir=False)
        self._index = folder / "index.html"
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; say so where the page isn't built."""
        if scope["type"] == "websocket":
            await unknown_path(scope, receive, send)
            return
        if any(route.matches(scope)[0] is Match.PARTIAL for route in self._others):
            raise HTTPException(405)
        if not self._index.is_file():
            if self.get_path(scope) not in (".", "index.html"):
                raise HTTPException(404)
            await HTMLResponse(MISSING, 503)(scope, receive, send)
            return
        await super().__call__(scope, receive, send)


class Headed:
    """Middleware that gives every answer its security and cache headers."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_FIXED_HEADERS)
                if request.url.scheme == "https":
                    headers["Strict-Transport-Security"] = _SECURE
                headers["Content-Security-Policy"] = _policy(request, self.settings)
                headers.setdefault("Cache-Control", _caching(request.url.path, message["status"]))
            await send(message)

        await self.app(scope, receive, headed)


def mount_page(app: FastAPI, settings: Settings, folder: Path = BUILT) -> None:
    """Serve the page on every path that nothing else serves; call it last.

    Args:
        app: What it becomes part of.
        settings: Where livekit-server is, which the page may connect to.
        folder: The built page.
    """
    app.add_middleware(Headed, settings=settings)
    app.mount("/", Page(folder, tuple(app.routes)), name="page")


def _caching(path: str, status: int) -> str:
    if path.startswith("/assets/") and status in (200, 304):
        return "public, max-age=31536000, immutable"
    return "no-store" if path.startswith("/api/") else "no-cache"


def _policy(request: Request, settings: Settings) -> str:
    """What the page may load and call: itself and livekit-server."""
    livekit = server_url(request, settings)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "font-src 'self'",
            "img-src 'self' data:",
            "media-src 'self' blob:",
            f"connect-src 'self' {livekit} {http_form(livekit)}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
