"""Who may call: API keys, admin keys and web origins.

Keys are compared in constant time, and against every key that is set, so that an answer's time tells nothing.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import ApiError, error_response
from settings import Settings

ALWAYS_PUBLIC = ("/health",)


def bearer(headers: Headers) -> str:
    """The key in `Authorization: Bearer KEY`, or an empty string."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def known(key: str, keys: Iterable[str]) -> bool:
    """Whether `key` is one of `keys`."""
    found = False
    for candidate in keys:
        found |= hmac.compare_digest(key.encode(), candidate.encode())
    return found


def may_call(key: str, settings: Settings) -> bool:
    """Whether a caller with this key (empty: none) may call at all; an admin key is good for everything."""
    network = settings.network
    return not network.api_keys or known(key, (*network.api_keys, *network.admin_keys))


def require_admin(request: Request) -> None:
    """Dependency for paths that change personalities or voices.

    Raises:
        ApiError: `ADMIN_KEYS` is set and the caller's key isn't among them.
    """
    settings: Settings = request.app.state.settings
    if not settings.network.admin_keys:
        return
    key = bearer(request.headers)
    if not key:
        raise unauthorized("Send 'Authorization: Bearer KEY' with a key of ADMIN_KEYS to change this.")
    if not known(key, settings.network.admin_keys):
        raise ApiError(403, "forbidden", "This key may not change anything; use one of ADMIN_KEYS.")


def unauthorized(message: str) -> ApiError:
    """The refusal of a caller without a good key."""
    return ApiError(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})


def origin_pattern(origins: Sequence[str]) -> re.Pattern[str]:
    """One pattern for all of `CORS_ORIGINS`; `*` stands for any run of characters within host or port."""
    if "*" in origins:
        return re.compile(".*")
    parts = ("[^/@]*".join(re.escape(piece) for piece in origin.rstrip("/").split("*")) for origin in origins)
    # Browsers write an origin in lower case.
    return re.compile("|".join(f"(?:{part})" for part in parts).lower() or r"(?!)")


def origin_allowed(origin: str | None, settings: Settings) -> bool:
    """Whether a page from `origin` may open a WebSocket; a program that sends no Origin always may."""
    return origin is None or origin_pattern(settings.network.cors_origins).fullmatch(origin) is not None


class Keyed:
    """Middleware that asks HTTP callers for a key where `API_KEYS` is set (WebSockets: see sockets.accept).

    Args:
        app: What is protected.
        settings: Holds the keys.
        public_paths: Paths open to anyone; one that ends in `*` opens everything below it.
    """

    def __init__(self, app: ASGIApp, settings: Settings, public_paths: Sequence[str] = ()) -> None:
        self.app = app
        self.settings = settings
        self.exact = {path for path in (*ALWAYS_PUBLIC, *public_paths) if not path.endswith("*")}
        self.below = tuple(path[:-1] for path in public_paths if path.endswith("*"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a caller with a good key or to an open path; refuse others with 401."""
        if scope["type"] == "http" and not self._open(scope["path"]):
            key = bearer(Headers(scope=scope))
            if not may_call(key, self.settings):
                message = "This key isn't known." if key else "A key is needed."
                refusal = unauthorized(f"{message} Send 'Authorization: Bearer KEY' with a key of API_KEYS.")
                await error_response(refusal)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _open(self, path: str) -> bool:
        return path in self.exact or (bool(self.below) and path.startswith(self.below))
