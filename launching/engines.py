"""Which engines will answer, why, and which services conversations will need for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engines.select import Place, choose_one
from engines.types import EngineError, Kind
from settings import Settings

HOLDING_CONVERSATIONS = ("server", "agent")
"""Parts whose processes hold conversations; a service runs the engine of its own kind alone."""

KINDS: tuple[Kind, ...] = ("stt", "chat", "tts")


@dataclass(frozen=True, slots=True)
class EnginesChosen:
    """What the launcher knows of the engines before it starts anything."""

    lines: tuple[str, ...]
    """Per kind, what was chosen and why."""

    problems: tuple[str, ...]
    """Per kind without an engine, what to do about it."""

    through_services: frozenset[Kind]
    """Kinds for which conversations ask the running service."""


def engines_chosen(settings: Settings, names: Sequence[str]) -> EnginesChosen:
    """Choose engines as the parts of these names will; nothing is loaded, which engines do when first asked."""
    holds = not names or any(name in HOLDING_CONVERSATIONS for name in names)
    place: Place = "conversation" if holds else "service"
    lines: list[str] = []
    problems: list[str] = []
    through: set[Kind] = set()
    for kind in KINDS if holds else (kind for kind in KINDS if kind in names):
        try:
            why, through_service = _choice(settings, kind, place)
        except (EngineError, ImportError) as error:
            problems.append(f"{kind}: NO ENGINE. {error}")
            continue
        lines += why
        if through_service:
            through.add(kind)
    return EnginesChosen(tuple(lines), tuple(problems), frozenset(through))


def _choice(settings: Settings, kind: Kind, place: Place) -> tuple[tuple[str, ...], bool]:
    match kind:  # one call per kind: each has a type of its own
        case "stt":
            heard = choose_one(settings, kind, place)
            return heard.why, heard.through_service
        case "chat":
            said = choose_one(settings, kind, place)
            return said.why, said.through_service
        case "tts":
            spoken = choose_one(settings, kind, place)
            return spoken.why, spoken.through_service
