"""ElevenLabs' error codes as the HTTP statuses they stand for: over its WebSocket, and for credit, it uses no others.

From https://elevenlabs.io/docs/eleven-api/resources/errors.
"""

from __future__ import annotations

_CODES = {
    "invalid_api_key": 401,
    "missing_api_key": 401,
    "quota_exceeded": 402,
    "insufficient_credits": 402,
    "payment_required": 402,
    "missing_permissions": 403,
    "insufficient_permissions": 403,
    "voice_not_found": 404,
    "voice_id_does_not_exist": 404,
    "model_not_found": 404,
    "model_id_does_not_exist": 404,
    "invalid_model_id": 404,
    "too_many_concurrent_requests": 429,
    "concurrent_limit_exceeded": 429,
    "rate_limit_exceeded": 429,
    "system_busy": 429,
}
_WORDS = (
    (("api key", "api_key"), 401),
    (("quota", "credit", "payment"), 402),
    (("concurrent", "rate limit", "too many", "busy"), 429),
    (("voice", "model"), 404),
)


def status_of(said: str, status: int) -> int:
    """The HTTP status of an error.

    Args:
        said: Its code, or the reason that a connection was closed with.
        status: What it came with, where `said` tells nothing.
    """
    if said in _CODES:
        return _CODES[said]
    words = said.lower()
    return next((stands for marks, stands in _WORDS if any(mark in words for mark in marks)), status)
