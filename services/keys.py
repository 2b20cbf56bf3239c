"""Who may call: API keys, admin keys and web origins.

Keys are compared in constant time, and against every key that is set, so that an answer's time tells nothing.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from services.errors import ApiError
from settings import Settings


def bearer(headers: Headers) -> str:
    """The key in `Authorization: Bearer KEY`, or an empty string."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def key_of(conn: HTTPConnection) -> str:
    """The caller's key, or an empty string; a WebSocket may have it in its address, as browsers can't send headers."""
    in_address = conn.query_params.get("api_key", "") if conn.scope["type"] == "websocket" else ""
    return bearer(conn.headers) or in_address


def known(key: str, keys: Iterable[str]) -> bool:
    """Whether `key` is one of `keys`."""
    found = False
    for candidate in keys:
        # An empty one is one that isn't set.
        found |= hmac.compare_digest(key.encode(errors="replace"), candidate.encode()) and bool(candidate)
    return found


def may_call(key: str, settings: Settings) -> bool:
    """Whether a caller with this key (empty: none) may call at all; an admin key is good for everything."""
    network = settings.network
    return not network.api_keys or known(key, (*network.api_keys, *network.admin_keys))


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
    return origin is None or origin_pattern(settings.network.origins).fullmatch(origin) is not None
