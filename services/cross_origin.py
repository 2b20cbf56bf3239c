"""Which pages may read our answers: those of `CORS_ORIGINS`; others are refused in the contract's shape."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from services.errors import ApiError, error_response
from services.keys import origin_pattern
from settings import Settings


class CrossOrigin(CORSMiddleware):
    """Middleware for `CORS_ORIGINS`."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(
            app,
            allow_origin_regex=origin_pattern(settings.network.origins).pattern,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks whether a page may call."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        message = f"{bytes(answer.body).decode()}: pages of this origin may not call this; add it to CORS_ORIGINS."
        refusal = error_response(ApiError(403, "forbidden", message))
        refusal.headers["Vary"] = answer.headers.get("Vary", "Origin")
        return refusal
