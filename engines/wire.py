"""The wire format between a running service and its callers: names, paths, sample formats, error codes.

Both ends read it from here: `services/` serves it, `engines/*/service.py` calls it. The contract behind it is public,
so nothing here changes by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from engines.types import (
    Audio,
    EngineBadInput,
    EngineError,
    EngineFull,
    EngineNotConfigured,
    EngineUnavailable,
    Kind,
)

HEALTH: Final = "/health"
TRANSCRIBE: Final = "/transcribe"
TRANSCRIBE_STREAM: Final = "/transcribe/stream"
OPENAI_TRANSCRIPTIONS: Final = "/v1/audio/transcriptions"
CHAT: Final = "/chat"
CHAT_GROQ: Final = "/chat/groq"
OPENAI_COMPLETIONS: Final = "/v1/chat/completions"
OPENAI_MODELS: Final = "/v1/models"
TTS_STREAM: Final = "/tts/stream"
OPENAI_SPEECH: Final = "/v1/audio/speech"

START: Final = "start"
PARTIAL: Final = "partial"
SETTLE: Final = "settle"
SETTLED: Final = "settled"
FINISH: Final = "finish"
FINAL: Final = "final"
CANCEL: Final = "cancel"
ERROR: Final = "error"
SPEECH_END: Final = "tts_stream_end"

SSE_DONE: Final = "[DONE]"

LARGEST_MESSAGE: Final = 1024 * 1024
"""Bytes of the largest WebSocket message that our services take."""

SERVICE_NAMES: Final[Mapping[Kind, str]] = {"stt": "speech-to-text", "chat": "chat", "tts": "text-to-speech"}

_ERRORS: Mapping[str, type[EngineError]] = {
    kind.code: kind for kind in (EngineError, EngineFull, EngineNotConfigured, EngineUnavailable, EngineBadInput)
} | {
    "bad_request": EngineBadInput,
    "too_big": EngineBadInput,
    "unauthorized": EngineNotConfigured,
    "too_fast": EngineFull,
    "timeout": EngineUnavailable,
}


def audio_to_pcm16(audio: Audio) -> bytes:
    """16-bit little-endian PCM of samples in [-1, 1]; louder ones are clipped."""
    return (np.clip(audio, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes()


def pcm16_to_audio(data: bytes) -> Audio:
    """Samples of 16-bit little-endian PCM; `data` has an even length."""
    audio = np.frombuffer(data, "<i2").astype(np.float32)
    audio /= np.float32(32768.0)  # in place: an hour is 230 MB
    return audio


def audio_to_float32(audio: Audio) -> bytes:
    """32-bit float little-endian PCM."""
    return np.ascontiguousarray(audio, "<f4").tobytes()


def float32_to_audio(data: bytes) -> Audio:
    """Samples of 32-bit float little-endian PCM.

    Raises:
        EngineUnavailable: The length isn't a multiple of four.
    """
    if len(data) % 4:
        raise EngineUnavailable("The text-to-speech service sent a broken piece of sound.")
    return np.frombuffer(data, "<f4").astype(np.float32, copy=False)


def error_from(code: str, message: str, retry_after: float | None = None) -> EngineError:
    """The engine error for a service's error answer."""
    if code == "unauthorized":
        message = f"The service refused our key; set SERVICE_API_KEY to one of its API_KEYS. ({message})"
    return _ERRORS.get(code, EngineError)(message, retry_after=retry_after)


def error_in(body: bytes | str) -> tuple[str, str]:
    """Code and message of an HTTP error answer; an answer that isn't ours gives its beginning as the message."""
    try:
        error = json.loads(body)["error"]
        return str(error.get("code") or EngineError.code), str(error["message"])
    except (ValueError, TypeError, KeyError, AttributeError):
        text = body.decode(errors="replace") if isinstance(body, bytes) else body
        return EngineError.code, text.strip()[:200] or "an empty answer"


def read_message(data: str) -> dict[str, Any]:
    """A text message as an object.

    Raises:
        EngineBadInput: It isn't a JSON object.
    """
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise EngineBadInput("Messages are JSON objects.")
    return message


def not_running(kind: Kind, url: str, detail: str = "") -> EngineUnavailable:
    """The error for a service that doesn't answer, naming the command that starts it."""
    more = f" ({detail})" if detail else ""
    return EngineUnavailable(
        f"The {SERVICE_NAMES[kind]} service at {url} doesn't answer{more}; "
        f"start it with: python launcher.py --services {kind}"
    )
