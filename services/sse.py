"""Server-sent events: JSON values, then `[DONE]`."""

from __future__ import annotations

import json
from typing import Any

from engines import wire

MEDIA_TYPE = "text/event-stream"


def event(value: dict[str, Any]) -> bytes:
    """One event; JSON is written in ASCII, so that no character inside a string can end its line."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def done() -> bytes:
    """The last event."""
    return f"data: {wire.SSE_DONE}\n\n".encode()
