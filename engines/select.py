"""Chooses the engines that the settings name, or the best ones there are, and says which and why.

Local models are loaded once per machine, in the services: in a conversation's own process their names stand for the
running service. Everything else runs where it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar, overload

from engines.catalog import CATALOG, CHAT, SERVICE, STT, TTS, Entry
from engines.fallback import FallbackChat, FallbackSynthesizer, FallbackTranscriber
from engines.types import CLOUD, ChatModel, Engine, EngineError, EngineNotConfigured, Kind, Synthesizer, Transcriber
from settings import Settings

Place: TypeAlias = Literal["conversation", "service"]
"""Who asks: a conversation's process, or a service that runs engines for others."""

AUTO = "auto"

E = TypeVar("E", bound=Engine)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The engines of one process, not yet started; the caller starts and closes them."""

    stt: Transcriber
    chat: ChatModel
    tts: Synthesizer
    why: tuple[str, ...]
    """Lines to print at start: what was taken and why, what was left out and what to do about it."""


@dataclass(frozen=True, slots=True)
class Choice(Generic[E]):
    """The engine of one kind, not yet started, and the lines that say why it is this one."""

    engine: E
    why: tuple[str, ...]
    through_service: bool
    """Whether the running service of this kind is asked, or is among those that are."""


def choose(settings: Settings, place: Place) -> Chosen:
    """The engines for all three kinds.

    Raises:
        EngineNotConfigured: A list names an unknown engine, or nothing in it can be built; says what to do.
    """
    stt = choose_one(settings, "stt", place)
    chat = choose_one(settings, "chat", place)
    tts = choose_one(settings, "tts", place)
    return Chosen(stt.engine, chat.engine, tts.engine, (*stt.why, *chat.why, *tts.why))


@overload
def choose_one(settings: Settings, kind: Literal["stt"], place: Place) -> Choice[Transcriber]: ...
@overload
def choose_one(settings: Settings, kind: Literal["chat"], place: Place) -> Choice[ChatModel]: ...
@overload
def choose_one(settings: Settings, kind: Literal["tts"], place: Place) -> Choice[Synthesizer]: ...
def choose_one(
    settings: Settings, kind: Kind, place: Place
) -> Choice[Transcriber] | Choice[ChatModel] | Choice[Synthesizer]:
    """The engine of one kind: the one that its list names, or several of them in order as one.

    Raises:
        EngineNotConfigured: The list names an unknown engine, or nothing in it can be built; says what to do.
    """
    match kind:
        case "stt":
            heard, why, through = _built(settings, kind, STT, settings.engines.stt, place)
            return Choice(heard[0] if _alone(heard, place) else hearing(settings, heard), why, through)
        case "chat":
            said, why, through = _built(settings, kind, CHAT, settings.engines.chat, place)
            return Choice(said[0] if _alone(said, place) else answering(settings, said), why, through)
        case "tts":
            spoken, why, through = _built(settings, kind, TTS, settings.engines.tts, place)
            return Choice(spoken[0] if _alone(spoken, place) else speaking(settings, spoken), why, through)


def only_through_service(settings: Settings) -> tuple[Kind, ...]:
    """The kinds for which a conversation has nothing but the running service."""
    lists: dict[Kind, Sequence[str]] = {
        "stt": settings.engines.stt,
        "chat": settings.engines.chat,
        "tts": settings.engines.tts,
    }
    return tuple(kind for kind, names in lists.items() if names and set(names) <= {SERVICE})


def hearing(settings: Settings, engines: Sequence[Transcriber]) -> FallbackTranscriber:
    """Recognizers in order, as one, with the settings' deadline."""
    return FallbackTranscriber(engines, settings.engines.stt_deadline)


def answering(settings: Settings, engines: Sequence[ChatModel]) -> FallbackChat:
    """Chat models in order, as one, with the settings' deadlines."""
    wanted = settings.engines
    return FallbackChat(engines, wanted.chat_first_deadline, next_deadline=wanted.chat_next_deadline)


def speaking(settings: Settings, engines: Sequence[Synthesizer]) -> FallbackSynthesizer:
    """Voices in order, as one, with the settings' deadline."""
    return FallbackSynthesizer(engines, settings.engines.tts_deadline)


def _alone(engines: Sequence[Engine], place: Place) -> bool:
    """Whether an engine needs no line: a conversation keeps its deadlines there, a service those of clouds only.

    What a service runs on this machine has deadlines at its callers, and may take its time for those that have none.
    """
    return len(engines) == 1 and place == "service" and engines[0].info.device != CLOUD


@overload
def named(settings: Settings, kind: Literal["stt"], name: str, place: Place) -> Transcriber: ...
@overload
def named(settings: Settings, kind: Literal["chat"], name: str, place: Place) -> ChatModel: ...
@overload
def named(settings: Settings, kind: Literal["tts"], name: str, place: Place) -> Synthesizer: ...
def named(settings: Settings, kind: Kind, name: str, place: Place) -> Engine:
    """One engine by its name, whatever the lists say.

    Raises:
        EngineNotConfigured: It is unknown or lacks something; says what to do.
    """
    entry = _entry(kind, CATALOG[kind], name)
    return _build(settings, entry, _resolved(kind, CATALOG[kind], entry, place))


def _built(
    settings: Settings, kind: Kind, table: Mapping[str, Entry[E]], names: Sequence[str], place: Place
) -> tuple[list[E], tuple[str, ...], bool]:
    """The engines of a list, in its order, each once, the lines about them, and whether a service is among them."""
    engines: list[E] = []
    why: list[str] = []
    problems: list[str] = []
    taken: set[str] = set()
    for name in dict.fromkeys(names or (AUTO,)):
        if name == AUTO:
            entry, passed_over = _best(settings, table)
            reason = f"auto: the best that is configured and present{passed_over}"
        else:
            entry, reason = _entry(kind, table, name), f"named in {kind.upper()}"
        try:
            resolved = _resolved(kind, table, entry, place)
            if resolved.name in taken:
                continue
            engine = _build(settings, entry, resolved)
        except EngineNotConfigured as error:
            problems.append(error.message)
            why.append(f"{kind}: {entry.name} left out: {error.message}")
            continue
        taken.add(resolved.name)
        engines.append(engine)
        address = f" through the service at {settings.service_url(kind)}" if resolved.name == SERVICE else ""
        order = f", number {len(engines)} in line" if len(engines) > 1 else ""
        why.append(f"{kind}: {entry.name}{address}{order} ({reason})")
    if not engines:
        raise EngineNotConfigured(f"{kind.upper()}={','.join(names)} gives no engine. {' '.join(problems)}")
    return engines, tuple(why), SERVICE in taken


def _entry(kind: Kind, table: Mapping[str, Entry[E]], name: str) -> Entry[E]:
    if name not in table:
        raise EngineNotConfigured(
            f"{kind.upper()} names '{name}', which is no engine; use {AUTO} or a list of {', '.join(sorted(table))}."
        )
    return table[name]


def _best(settings: Settings, table: Mapping[str, Entry[E]]) -> tuple[Entry[E], str]:
    """The first entry that lacks nothing, and which better ones were passed over."""
    passed_over: list[str] = []
    candidates = [entry for entry in table.values() if entry.name != SERVICE]
    for entry in candidates:
        if not entry.lacks(settings):
            return entry, f"; not available: {', '.join(passed_over)}" if passed_over else ""
        passed_over.append(entry.name)
    # The last one is the embedded engine; building it says what it lacks.
    return candidates[-1], ""


def _resolved(kind: Kind, table: Mapping[str, Entry[E]], entry: Entry[E], place: Place) -> Entry[E]:
    """The entry that serves for `entry` in this place."""
    if place == "service" and entry.name == SERVICE:
        embedded = list(table)[-2]
        raise EngineNotConfigured(
            f"A service can't use itself. Name the engine that it runs after it: {kind.upper()}=service,{embedded} "
            "(conversations then ask the service first)."
        )
    return table[SERVICE] if place == "conversation" and entry.runs == "service" else entry


def _build(settings: Settings, entry: Entry[E], resolved: Entry[E]) -> E:
    """Build `resolved`, which serves for `entry`.

    Raises:
        EngineNotConfigured: `entry` lacks something.
    """
    if lack := entry.lacks(settings):
        raise EngineNotConfigured(lack)
    try:
        return resolved.build(settings)
    except EngineNotConfigured:
        raise
    except EngineError as error:
        raise EngineNotConfigured(error.message) from error
    except ImportError as error:
        if (error.name or "").startswith("engines"):
            raise
        raise EngineNotConfigured(
            f"The engine '{entry.name}' misses a package ({error.name}); run 'make setup'."
        ) from error
