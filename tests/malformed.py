"""A seeded generator of messages that nobody should send, made from proper ones, and what an answer to them may be.

The seed is fixed, so that a run repeats; `MALFORMED_SEED=123` tries others, and a failure names the one that it had.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SEED = int(os.environ.get("MALFORMED_SEED", "20261124"))

ODD_TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud800",
    "\udfff\ud800",
    "\U0010ffff",
    "\u202e\u2066abc",
    "é" * 300,
    "\r\n\r\nHTTP/1.1 200 OK",
    "../../../../etc/passwd",
    "%00%2e%2e%2f",
    "<script>alert(1)</script>",
    "'; DROP TABLE personalities; --",
    "{{7*7}}${7*7}%s%n",
    "<speak><break time='1000s'/></speak>",
    "\x1b[2J\x07",
    "ﷺ" * 20,
    "a" * 11_000,
    "?" * 500,
)
ODD_NUMBERS = (
    "0",
    "-1",
    "1e999",
    "-1e999",
    "1" * 400,
    "1" * 6000,
    "0.1e-400",
    "NaN",
    "Infinity",
    str(2**63),
    str(2**31),
)

ANSWERED = ({"t0", "t1", "t2"}, {"id", "name", "voice"}, {"id", "name"}, {"code", "message"})
"""Names in what a call to the agent in a room is answered: the clock, a personality, a voice, an error."""


class Malformed:
    """Random messages; the same seed gives the same ones.

    Args:
        what: Names the sequence, so that each test has one of its own.
    """

    def __init__(self, what: str) -> None:
        self.random = random.Random(f"{SEED} {what}")

    def value(self, depth: int = 0) -> str:
        """Some JSON, as text."""
        rng = self.random
        match rng.randrange(7 if depth < 3 else 4):
            case 0:
                return rng.choice(ODD_NUMBERS)
            case 1 | 2:
                return json.dumps(rng.choice(ODD_TEXTS))
            case 3:
                return rng.choice(("null", "true", "false", "[]", "{}"))
            case 4:
                return "[" + ",".join(self.value(depth + 1) for _ in range(rng.randrange(4))) + "]"
            case 5:
                names = (json.dumps(rng.choice((*ODD_TEXTS, "type", "text", "id"))) for _ in range(rng.randrange(4)))
                return "{" + ",".join(f"{name}:{self.value(depth + 1)}" for name in names) + "}"
            case _:
                deep = rng.choice((10, 500, 5_000, 50_000))
                return "[" * deep + "]" * deep

    def text(self, proper: Sequence[Mapping[str, Any]]) -> str | bytes:
        """A text message: a proper one with something wrong, or something else entirely; bytes where it isn't UTF-8."""
        rng = self.random
        fields = {name: json.dumps(value) for name, value in rng.choice(proper).items()}
        match rng.randrange(8):
            case 0 | 1 | 2 if fields:
                fields[rng.choice(list(fields))] = self.value()
            case 3:
                fields[json.loads(json.dumps(rng.choice(ODD_TEXTS)))] = self.value()
            case 4:
                return self.value()
            case 5:
                whole = self._object(fields).encode(errors="replace")
                return self._spoiled(whole)
            case 6:
                return rng.randbytes(rng.randrange(300))
            case _:
                for name in list(fields):
                    if rng.random() < 0.5:
                        del fields[name]
        return self._object(fields)

    def sound(self) -> bytes:
        """A binary message."""
        rng = self.random
        return rng.randbytes(rng.choice((0, 1, 2, 3, 7, 320, 641, 5_000, 32_001)))

    def file(self, whole: bytes) -> bytes:
        """A recording with something wrong."""
        rng = self.random
        head = rng.choice((64, 300, len(whole)))
        spoiled = bytearray(whole)
        for _ in range(rng.choice((1, 3, 20, 200))):
            spoiled[rng.randrange(min(head, len(spoiled)))] = rng.randrange(256)
        if rng.random() < 0.4:
            del spoiled[rng.randrange(len(spoiled)) :]
        return bytes(spoiled)

    def _object(self, fields: Mapping[str, str]) -> str:
        return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields.items()) + "}"

    def _spoiled(self, whole: bytes) -> bytes:
        rng = self.random
        spoiled = bytearray(whole)
        for _ in range(rng.randrange(1, 5)):
            if spoiled:
                spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
        return bytes(spoiled[: rng.randrange(len(spoiled) + 1)] if rng.random() < 0.5 else spoiled)


@contextmanager
def seed_named() -> Iterator[None]:
    """Name the seed in what fails inside."""
    try:
        yield
    except BaseException as failure:
        failure.add_note(f"MALFORMED_SEED={SEED}")
        raise


def shown(message: str | bytes | None) -> str:
    """A message in a failure's text."""
    return repr(message)[:300]


class Memory:
    """The memory of a process and its children.

    Args:
        pid: Of the process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.before = self.now()

    def now(self) -> float:
        """Resident megabytes."""
        pages = 0
        waiting = [self.pid]
        while waiting:
            folder = Path("/proc") / str(waiting.pop())
            try:
                pages += int((folder / "statm").read_text().split()[1]) - int((folder / "statm").read_text().split()[2])
                for task in (folder / "task").iterdir():
                    waiting += map(int, (task / "children").read_text().split())
            except OSError:
                continue
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    @property
    def grown(self) -> float:
        """Megabytes more than at the beginning."""
        return self.now() - self.before


def check_log(text: str) -> None:
    """No traceback, and nothing that went wrong inside."""
    wrong = [line for line in text.splitlines() if "Traceback" in line or " ERROR " in line or "CRITICAL" in line]
    assert not wrong, text[-4000:]
