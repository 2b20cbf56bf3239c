"""Every refusal of our HTTP parts in one shape: `{"error": {"code", "message"}}` with a fitting status.

What goes wrong inside is logged with its traceback and told to the caller as `internal`, without internals.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engines.types import EngineBadInput, EngineError, EngineFull, EngineNotConfigured, EngineUnavailable

logger = logging.getLogger("voice_node.services")

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    409: "conflict",
    413: "too_big",
    415: "unsupported_media_type",
    429: "too_fast",
    503: "unavailable",
    504: "timeout",
}
_PLACES = {"body", "query", "path", "header", "form"}
_OURS = re.compile("[A-Za-z_]{1,40}")


class ApiError(Exception):
    """A refusal that a handler raises and the caller is shown as it is.

    Args:
        status: HTTP status.
        code: Machine-readable name, in snake case.
        message: One sentence for a person, saying what to do.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


class AsciiResponse(JSONResponse):
    """JSON in ASCII, which can be written whatever its texts hold."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content).encode()


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    """The JSON body of a refusal."""
    return {"error": {"code": code, "message": message}}


def error_response(error: ApiError) -> JSONResponse:
    """The whole answer to a refused call."""
    # In ASCII: a message may repeat a name that no encoding takes.
    return AsciiResponse(error_body(error.code, error.message), error.status, error.headers)


def from_engine(error: EngineError) -> ApiError:
    """The refusal that tells an HTTP caller about an engine's error."""
    if isinstance(error, EngineBadInput):
        return ApiError(400, error.code, error.message)
    headers = {}
    if isinstance(error, EngineFull) or error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after or 1)))
    if isinstance(error, EngineFull | EngineNotConfigured | EngineUnavailable):
        return ApiError(503, error.code, error.message, headers)
    return ApiError(500, error.code, error.message, headers)


def from_validation(error: RequestValidationError) -> ApiError:
    """The refusal of a body or query that doesn't fit: 400, naming each field and what is wrong with it.

    What the caller sent is not repeated, since it may hold what somebody said.
    """
    parts = []
    for problem in error.errors():
        if problem["type"] == "json_invalid":
            parts.append("the body isn't valid JSON")
            continue
        if problem["type"] == "model_attributes_type" and len(problem["loc"]) == 1:
            parts.append("the body must be a JSON object, sent with Content-Type: application/json")
            continue
        where = ".".join(_named(step) for step in problem["loc"] if step not in _PLACES)
        parts.append(f"{where or 'the body'}: {problem['msg']}")
    return ApiError(400, "bad_request", "; ".join(parts) or "the request doesn't fit this path")


def _named(step: int | str) -> str:
    """A step of the way to what doesn't fit; a name that isn't one of ours is the caller's, and not repeated."""
    return str(step) if isinstance(step, int) or _OURS.fullmatch(step) else "..."


def from_status(error: HTTPException) -> ApiError:
    """The refusal for what the framework itself refuses (unknown path, wrong method, too big a body)."""
    status = error.status_code
    phrase = HTTPStatus(status).phrase
    messages = {
        404: "There is nothing at this path.",
        405: "This path doesn't take this method.",
        408: "The body came too slowly.",
        413: "The body is larger than this service takes.",
    }
    detail = str(error.detail)
    message = messages.get(status, detail) if detail in ("", phrase) or status in (408, 413) else detail
    return ApiError(status, _CODES.get(status, phrase.lower().replace(" ", "_")), message, error.headers)


def install(app: FastAPI) -> None:
    """Make `app` answer all refusals in the contract's shape."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        return error_response(as_api_error(error))

    for kind in (ApiError, EngineError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, refused)


def as_api_error(error: Exception) -> ApiError:
    """What the caller is told about any exception; one that isn't a refusal becomes `internal`."""
    match error:
        case ApiError():
            return error
        case EngineError():
            return from_engine(error)
        case RequestValidationError():
            return from_validation(error)
        case HTTPException():
            return from_status(error)
        case _:
            return ApiError(500, "internal", "Something went wrong inside; the service's log says what.")


class Caught:
    """Middleware that turns whatever escapes the layers inside it into an answer, and logs what was unexpected."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, answering every failure that happens before its answer has begun."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except asyncio.CancelledError:
            # Only a stop of the whole service cancels an answer under way.
            if not started:
                await error_response(ApiError(503, "unavailable", "The service is stopping."))(scope, receive, send)
        except Exception as error:
            answer = as_api_error(error)
            if answer.code == "internal":
                logger.exception("request failed", extra={"path": scope["path"], "method": scope["method"]})
            if started:
                # The status is out already; ending the connection is all that tells the caller.
                raise
            await error_response(answer)(scope, receive, send)
