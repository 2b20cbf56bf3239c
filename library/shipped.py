"""Personalities and voices that come in files: reading them, and refreshing the rows that nobody changed.

`PERSONALITIES_DIR/*.yaml` are personalities, `PERSONALITIES_DIR/voices/*.yaml` voices; a file's name is its
id. A file that can't be used is reported with its field, and the others still load. A row that a person
made or changed is never overwritten, and the row of a removed file stays.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from library.database import Database
from library.models import SHIPPED, PersonalityRow, VoiceRow
from library.upgrade import PATIENCE

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\r\n]*$")]
Words = Annotated[str, StringConstraints(strip_whitespace=True)]
Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]


ADVISORY_LOCK = 0x766F6964
"""PostgreSQL: held while rows are refreshed, so that processes that start together do it one by one."""


class _Unusable(Exception):
    """A file can't be used; the message says why."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class VoiceFile(_File):
    """A voice's file."""

    name: Line
    language: Language = "en"
    engines: dict[str, Line] = Field(default_factory=dict)
    """What each engine is to speak with, by the engine's name: eSpeak NG's variant, a cloud's voice id."""
    samples: list[str] = Field(default_factory=list)
    """Reference recordings, for engines that clone: paths beside this file, or addresses."""
    rate: float = Field(1.0, ge=0.25, le=4)
    pitch: float = Field(1.0, ge=0.25, le=4)


class PersonalityFile(_File):
    """A personality's file."""

    name: Line
    description: Words = ""
    language: Language = "en"
    prompt: Annotated[Words, Field(min_length=1)]
    greeting: Words = ""
    voice: Line
    patience: float = Field(1.0, ge=0.25, le=4)


_Kind = TypeVar("_Kind", bound=_File)


@dataclass(frozen=True, slots=True)
class Shipped:
    """What the files hold: rows by table and id, and one line for each thing wrong with them."""

    voices: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    personalities: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read(folder: Path) -> Shipped:
    """Read all files of the folder. Blocks: call it in a thread."""
    problems: list[str] = []
    folder = folder.absolute()
    if not folder.is_dir():
        return Shipped(problems=(f"{folder} is no folder: set PERSONALITIES_DIR to the one with the YAML files",))
    voices: dict[str, dict[str, Any]] = {}
    for id, voice in _files(folder / "voices", VoiceFile, problems):
        samples = [str(folder / "voices" / sample) if "://" not in sample else sample for sample in voice.samples]
        voices[id] = voice.model_dump() | {"samples": samples}
    personalities: dict[str, dict[str, Any]] = {}
    for id, personality in _files(folder, PersonalityFile, problems):
        values = personality.model_dump()
        personalities[id] = {"voice_id": values.pop("voice")} | values
    return Shipped(voices, personalities, tuple(problems))


async def refresh(database: Database, shipped: Shipped) -> tuple[str, ...]:
    """Put the files' content into the database: new rows, and rows as an earlier file left them.

    Returns:
        One line for each personality that names a voice which doesn't exist; such ones are left out.

    Raises:
        DatabaseError: The database failed.
    """
    async with database.session() as session:
        changes, problems = await _changes(session, shipped)
    if not changes:
        return problems
    async with database.transaction(PATIENCE) as session:
        if not database.sqlite:  # SQLite's writers are alone anyway
            await session.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        changes, problems = await _changes(session, shipped)
        now = time.time()
        for table, id, values in changes:
            marks = {"origin": SHIPPED, "shipped_hash": _hash(values), "updated_at": now}
            row = {"id": id, "created_at": now} | values | marks
            await session.execute(database.upsert(table, "id", row, changes=values | marks))
    return problems


Change = tuple[type[VoiceRow] | type[PersonalityRow], str, dict[str, Any]]


async def _changes(session: AsyncSession, shipped: Shipped) -> tuple[list[Change], tuple[str, ...]]:
    voices = {row.id: row for row in await session.scalars(select(VoiceRow))}
    personalities = {row.id: row for row in await session.scalars(select(PersonalityRow))}
    changes: list[Change] = [
        (VoiceRow, id, values) for id, values in shipped.voices.items() if _refreshable(voices.get(id), values)
    ]
    problems = []
    known = voices.keys() | shipped.voices.keys()
    for id, values in shipped.personalities.items():
        if values["voice_id"] not in known:
            there_are = ", ".join(sorted(known)) or "none"
            problems.append(f"{id}.yaml: voice: there is no voice '{values['voice_id']}' (there are: {there_are})")
        elif _refreshable(personalities.get(id), values):
            changes.append((PersonalityRow, id, values))
    return changes, tuple(problems)


def _refreshable(row: VoiceRow | PersonalityRow | None, values: dict[str, Any]) -> bool:
    """Whether the file's content belongs into the row: it differs, and the row is as an earlier file left it."""
    if row is None:
        return True
    if row.origin != SHIPPED or row.shipped_hash == _hash(values):
        return False
    return row.shipped_hash == _hash({name: getattr(row, name) for name in values})


def _hash(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _files(folder: Path, kind: type[_Kind], problems: list[str]) -> Iterator[tuple[str, _Kind]]:
    for path in sorted(folder.glob("*.y*ml")):
        if path.suffix not in (".yaml", ".yml"):
            continue
        try:
            if not _ID.fullmatch(path.stem):
                raise _Unusable("the file's name is the id: 1 to 64 small letters, digits, '-' and '_'")
            yield path.stem, _parsed(path, kind)
        except _Unusable as error:
            problems.append(f"{path}: {error}")


def _parsed(path: Path, kind: type[_Kind]) -> _Kind:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise _Unusable(f"{line}not YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise _Unusable(" ".join(str(error).split())) from None
    if not isinstance(content, dict):
        raise _Unusable("holds no fields: write 'name: ...' and the others, one a line")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc'])) or 'content'}: {e['msg']}" for e in error.errors()]
        raise _Unusable("; ".join(wrong)) from None
