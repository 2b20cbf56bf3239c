"""How long a conversation stands still when a part fails: `python bench/recovery.py [--json FILE]`.

Starts a stack of its own on free ports and, part by part, kills a process (SIGKILL) or freezes it (SIGSTOP, 5 s) while
somebody is in a conversation. They ask at once, and ask again where no answer comes; the time runs from the signal to
the first sound of the answer. Where the part carries their line, reconnecting counts. Engines are asked through the
services (`STT=service,pocketsphinx` and so on), so that a service that fails is felt.

Each round meets every part once, so that the launcher's pause before a new start is that of a first death.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.ground import machine
from tests.e2e.faults import THROUGH_SERVICES, Fault, healed, holder, pids
from tests.e2e.persistent import SAID_AGAIN_AFTER, InRoom, OnSocket
from tests.e2e.stack import Stack

PARTS = ("stt", "chat", "tts", "server", "agent", "job", "livekit", "page")
KINDS = ("killed", "frozen")
IN_ROOM = ("agent", "job", "livekit", "page")
"""Parts that only people in rooms feel; the others are tried over the WebSocket."""
AGAIN = 2.0
"""Seconds until an unanswered question is typed again; spoken again this soon, it would be one endless sentence."""


@dataclass
class Recovery:
    """One fault: seconds from the signal until the next turn was answered, None where it never was."""

    part: str
    kind: str
    seconds: float | None
    lines: int
    """Connections the caller needed, the first included."""


async def recover(stack: Stack, part: str, kind: str) -> Recovery:
    """Break a part in a conversation of its own."""
    await healed(stack)
    talk = InRoom(stack) if part in IN_ROOM else OnSocket(stack)
    try:
        await talk.connect()
        await talk.ask("My name is Mary.", "Mary")
        (pid,) = [holder(stack, talk.session)] if part == "job" else pids(stack, part)
        struck, fault = time.monotonic(), Fault(kind, pid)
        seconds = None
        try:
            aloud = part == "stt"
            await talk.ask("What is my name?", "Mary", aloud=aloud, again=SAID_AGAIN_AFTER if aloud else AGAIN)
            seconds = talk.answered - struck
        except TimeoutError:
            pass
        await fault.over()
        return Recovery(part, kind, seconds, talk.lines)
    finally:
        await talk.close()


async def measure(stack: Stack, parts: Sequence[str], runs: int, done: Callable[[Recovery], None]) -> None:
    """Break every part in every way, round after round."""
    for _ in range(runs):
        for kind in KINDS:
            for part in parts:
                done(await recover(stack, part, kind))


def report(found: Sequence[Recovery]) -> dict[str, Any]:
    """Print the table; returns its figures."""
    figures: dict[str, Any] = {}
    print(
        f"\nseconds from the fault to the next answer\n  {'part':<10}"
        + "".join(f"{f'{k} p50':>13}{'max':>8}" for k in KINDS)
    )
    for part in dict.fromkeys(one.part for one in found):
        row = f"  {part:<10}"
        for kind in KINDS:
            times = [one.seconds for one in found if (one.part, one.kind) == (part, kind)]
            known = [seconds for seconds in times if seconds is not None]
            if not known:
                row += f"{'never':>13}{'':>8}" if times else f"{'':>21}"
                continue
            p50, most = float(np.median(known)), max(known)
            figures[f"{part} {kind}"] = {
                "p50": round(p50, 3),
                "max": round(most, 3),
                "unanswered": len(times) - len(known),
            }
            row += f"{p50:13.2f}{most:8.2f}"
        print(row)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status: 1 where a conversation didn't go on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds (default 3)")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to this file")
    asked = parser.parse_args(arguments)
    if asked.runs < 1:
        parser.error("--runs must be at least 1")
    logging.getLogger("livekit").setLevel(logging.CRITICAL)  # each attempt to mend a line that was cut is no news here
    here = machine()
    print(f"{here['cpu']}, {here['cores']} cores, Python {here['python']}")
    found: list[Recovery] = []

    def done(one: Recovery) -> None:
        found.append(one)
        answered = "no answer" if one.seconds is None else f"{one.seconds:.2f} s"
        print(f"  {one.part} {one.kind}: {answered}", flush=True)

    with tempfile.TemporaryDirectory(prefix="voice-node-bench-") as folder:
        print("starting a stack of its own ...", flush=True)
        with Stack(Path(folder), Path(folder) / "stack.log", environment=THROUGH_SERVICES).running() as stack:
            asyncio.run(measure(stack, asked.parts, asked.runs, done))
    figures = report(found)
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        measured = {"machine": here, "at": at, "recovery": figures, "faults": [asdict(one) for one in found]}
        asked.json.write_text(json.dumps(measured, indent=2), encoding="utf-8")
        print(f"\nwritten to {asked.json}")
    return int(any(one.seconds is None for one in found))


if __name__ == "__main__":
    sys.exit(main())
