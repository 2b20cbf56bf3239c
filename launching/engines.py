"""Which engines will answer, and why: the lines the launcher prints, one or more per kind."""

from __future__ import annotations

from collections.abc import Sequence

from engines.select import Place, choose_one
from engines.types import EngineError
from settings import Settings

HOLDING_CONVERSATIONS = ("server", "agent")
"""Parts whose processes hold conversations; a service runs the engine of its own kind alone."""


def engine_lines(settings: Settings, names: Sequence[str]) -> list[str]:
    """What was chosen for the parts of these names; where nothing could be, what to do about it.

    Nothing is loaded: engines load when they are first asked for something. Takes most of a second, in imports.
    """
    holds = any(name in HOLDING_CONVERSATIONS for name in names)
    place: Place = "conversation" if holds else "service"
    lines: list[str] = []
    for kind in ("stt", "chat", "tts"):
        if not holds and kind not in names:
            continue
        try:
            match kind:  # one call per kind: each has a type of its own
                case "stt":
                    lines += choose_one(settings, "stt", place).why
                case "chat":
                    lines += choose_one(settings, "chat", place).why
                case "tts":
                    lines += choose_one(settings, "tts", place).why
        except (EngineError, ImportError) as error:
            lines.append(f"{kind}: NO ENGINE. {error}")
    return lines
