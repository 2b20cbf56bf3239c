"""What the doctor says of the settings: engines, models, keys, the database, the built page."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from engines import catalog
from engines.types import Engine, EngineError, Kind
from launching.engines import engines_chosen
from launching.finding import Finding, fail, ok, warn
from launching.parts import DATABASE, NAMES, ROOT, Part
from settings import Settings
from settings.livekit_keys import KeysError, keys_path, livekit_keys

MODELS = (
    ("WHISPER_MODEL", "stt", "whisper"),
    ("GROQ_API_KEY", "stt", "groq"),
    ("ENABLE_LOCAL_MODEL", "chat", "llama"),
    ("CHAT_MODEL", "chat", "llama"),
    ("CHAT_URL", "chat", "url"),
    ("GROQ_API_KEY", "chat", "groq"),
    ("XTTS_MODEL_PATH", "tts", "xtts"),
    ("ELEVENLABS_API_KEY", "tts", "elevenlabs"),
    ("CARTESIA_API_KEY", "tts", "cartesia"),
)
"""Variables that mean an engine: set by somebody who expects it to answer."""

CLOUDS: tuple[tuple[str, Kind, str], ...] = (
    ("GROQ_API_KEY", "stt", "groq"),
    ("GROQ_API_KEY", "chat", "groq"),
    ("CHAT_URL", "chat", "url"),
    ("ELEVENLABS_API_KEY", "tts", "elevenlabs"),
    ("CARTESIA_API_KEY", "tts", "cartesia"),
)
"""Variables whose engines are elsewhere, and are asked whether they serve."""

TABLES = {"stt": catalog.STT, "chat": catalog.CHAT, "tts": catalog.TTS}

CHECK_WITHIN = 60.0
"""Seconds for a look at the database, which may be another machine's."""


def engines(settings: Settings, parts: Sequence[Part]) -> Iterator[Finding]:
    """Which engines will answer."""
    names = [part.name for part in parts]
    chosen = engines_chosen(settings, () if len(names) == len(NAMES) else names)
    for line in chosen.lines:
        yield ok(line)
    for problem in chosen.problems:
        yield fail(problem)


def models(settings: Settings) -> Iterator[Finding]:
    """Whether the models and cloud engines that are configured can be used by this version, and are there."""
    configured = False
    for variable, kind, name in MODELS:
        field = variable.lower()
        value = getattr(settings.engines, field)
        if value == type(settings.engines).model_fields[field].default:
            continue
        configured = True
        lacks = TABLES[kind][name].lacks(settings)
        if variable.endswith("_PATH") and lacks and _missing_folder(str(value)):
            yield fail(lacks)
        elif lacks:
            yield warn(f"{variable} is set, for {kind}: {lacks}")
        elif variable.endswith(("_PATH", "_MODEL")) and _missing_folder(str(value)):
            yield fail(f"{variable}={value}: there is no such folder")
        else:
            yield ok(f"{variable} is set: {name} can answer, for {kind}")
    voice = settings.engines.xtts_voice
    if settings.engines.xtts_model_path and "://" not in voice and _missing_folder(voice):
        yield fail(f"XTTS_VOICE={voice}: there is no such recording")
    if not configured:
        yield ok("models: none configured; the embedded engines bring theirs along")


def keys(settings: Settings) -> Iterator[Finding]:
    """Which keys are set, by name."""
    network, engines_set = settings.network, settings.engines
    counted = {"API_KEYS": len(network.api_keys), "ADMIN_KEYS": len(network.admin_keys)}
    named = [f"{name} ({count})" for name, count in counted.items() if count]
    named += [
        field.upper()
        for field in type(engines_set).model_fields
        if field.endswith("_api_key") and getattr(engines_set, field)
    ]
    yield ok(f"keys set: {', '.join(named) or 'none; callers of this machine need none'}")


def clouds(settings: Settings) -> Iterator[Finding]:
    """Whether the clouds take the keys that are set, and know the models; what is asked costs nothing."""
    wanted = [(variable, kind, name) for variable, kind, name in CLOUDS if getattr(settings.engines, variable.lower())]
    for (variable, kind, name), problem in zip(wanted, asyncio.run(_asked(settings, wanted)), strict=True):
        what = f"{variable}, for {kind}"
        if problem is None:
            yield ok(f"{what}: {name} answers, and takes it")
        else:
            yield warn(f"{what}: {problem}")


async def _asked(settings: Settings, wanted: Sequence[tuple[str, Kind, str]]) -> list[str | None]:
    """What is wrong with each, or None."""
    return await asyncio.gather(*(_ask(settings, kind, name) for _, kind, name in wanted))


async def _ask(settings: Settings, kind: Kind, name: str) -> str | None:
    try:
        engine: Engine = catalog.CATALOG[kind][name].build(settings)
        try:
            await engine.start()
        finally:
            await engine.aclose()
    except EngineError as error:
        return error.message
    except ImportError as error:
        return f"a package is missing ({error.name}); run 'make setup'"
    return None


def livekit_key(settings: Settings) -> Iterator[Finding]:
    """Whether LiveKit's key and secret can be used."""
    path = keys_path(settings)
    given = settings.livekit.livekit_api_key or settings.livekit.livekit_api_secret or settings.livekit.livekit_url
    if not given and not path.exists():
        yield ok(f"LiveKit key and secret: will be made at the first start, {path}")
        return
    if not given and path.stat().st_mode & 0o077:
        yield warn(f"LiveKit key and secret: others can read {path}; the next start closes it")
        return
    try:
        livekit_keys(settings)
    except KeysError as error:
        yield fail(f"LiveKit key and secret: {error}")
    else:
        yield ok(f"LiveKit key and secret: {'set' if given else f'{path}, for the owner only'}")


def database(parts: Sequence[Part]) -> Iterator[Finding]:
    """Whether the database can be reached and is of this version."""
    if not any(DATABASE in part.after for part in parts):
        return
    try:
        said = subprocess.run(
            [sys.executable, "-m", "library", "check"],
            capture_output=True,
            text=True,
            timeout=CHECK_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield fail(f"database: no answer within {CHECK_WITHIN:.0f} s; is DATABASE_URL right, and its server running?")
        return
    for line in said.stdout.strip().splitlines():
        yield ok(line)
    for line in said.stderr.strip().splitlines()[-3:]:
        yield fail(line)


def page(parts: Sequence[Part]) -> Iterator[Finding]:
    """Whether the page is built."""
    if any(part.name == "page" for part in parts):
        if (ROOT / "web" / "dist" / "index.html").is_file():
            yield ok("page: built")
        else:
            yield fail("page: web/dist is missing; 'make setup' builds it")


def _missing_folder(value: str) -> bool:
    return value.startswith(("/", ".", "~")) and not Path(value).expanduser().exists()
