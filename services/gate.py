"""The gate of every part: a key where keys are set, a rate for each caller, admin keys for what changes things."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import ApiError
from services.keys import bearer, key_of, known, may_call, unauthorized
from services.rates import Rates
from settings import Settings

ALWAYS_PUBLIC = ("/health",)


def pass_key(conn: HTTPConnection, settings: Settings, rates: Rates) -> bool:
    """Whether the caller may come in, as far as keys go; a wrong key is counted.

    Raises:
        ApiError: Too many wrong keys came from the caller's address.
    """
    key = key_of(conn)
    if key and settings.network.api_keys:
        rates.may_guess(conn)
    if may_call(key, settings):
        return True
    if key:
        rates.guessed(conn)
    return False


def require_admin(request: Request) -> None:
    """Dependency for paths that change personalities or voices.

    Raises:
        ApiError: `ADMIN_KEYS` is set and the caller's key isn't among them, or too many wrong ones were tried.
    """
    settings: Settings = request.app.state.settings
    rates: Rates = request.app.state.rates
    network = settings.network
    if not network.admin_keys:
        return
    key = bearer(request.headers)
    if not key:
        raise unauthorized("Send 'Authorization: Bearer KEY' with a key of ADMIN_KEYS to change this.")
    rates.may_guess(request)
    if not known(key, network.admin_keys):
        if not known(key, network.api_keys):
            rates.guessed(request)
        raise ApiError(403, "forbidden", "This key may not change anything; use one of ADMIN_KEYS.")


class Gate:
    """Middleware that asks HTTP callers for a key and counts their calls (WebSockets: see sockets.accept).

    Args:
        app: What is behind the gate.
        settings: Hold the keys.
        rates: Count.
        public_paths: Paths open to anyone and uncounted; one that ends in `*` opens everything below it.
    """

    def __init__(self, app: ASGIApp, settings: Settings, rates: Rates, public_paths: Sequence[str] = ()) -> None:
        self.app = app
        self.settings = settings
        self.rates = rates
        self.exact = {path for path in (*ALWAYS_PUBLIC, *public_paths) if not path.endswith("*")}
        self.below = tuple(path[:-1] for path in public_paths if path.endswith("*"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a caller with a good key, or to an open path.

        Raises:
            ApiError: The caller has no good key (401) or calls too often (429).
        """
        if scope["type"] == "http" and not self._open(scope["path"]):
            conn = HTTPConnection(scope)
            if not pass_key(conn, self.settings, self.rates):
                message = "This key isn't known." if key_of(conn) else "A key is needed."
                raise unauthorized(f"{message} Send 'Authorization: Bearer KEY' with a key of API_KEYS.")
            self.rates.call(conn)
        await self.app(scope, receive, send)

    def _open(self, path: str) -> bool:
        return path in self.exact or (bool(self.below) and path.startswith(self.below))
