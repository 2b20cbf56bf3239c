"""How long until the answer is heard: spoken questions in real time, over the WebSocket and through a room.

    python bench/voice_to_voice.py                       starts a stack of its own on free ports
    python bench/voice_to_voice.py --turns 40 --transport ws --json out.json
    python bench/voice_to_voice.py --url http://localhost:8080     measures a stack that runs

The clock starts with the last audible sample of the question as it is sent (a microphone hands over 20 ms
at a time; the moment inside the frame counts) and stops with the first audible sample of the reply as a
player without a buffer would play it. Leading silence of the voice is not audible. Stages come from the
latency records of the conversation (contract.md), whose zero is the ear's own estimate of the end of
speech; `speech_end` shows how late that estimate is against the truth, transport included.

The caller speaks with flite (Debian package `flite`) in turn with three voices.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.ground import OUT, machine, serving
from bench.questions import PATIENCE, QUESTIONS, STAGES, ended_at, heard_at, question
from tests.e2e.legacy_client import LegacyClient
from tests.e2e.room_client import RoomClient
from tests.spoken import pcm

GOALS = {"ws": 0.40, "room": 0.55}
"""Seconds, p50, with the embedded engines on 2 cores."""


@dataclass
class Turn:
    """One question: seconds after the end of speech, None where it never came."""

    transport: str
    question: str
    voice: str
    first_packet: float | None = None
    first_audible: float | None = None
    speech_end: float | None = None
    """How much later than the truth the ear placed the end of speech."""
    stages: dict[str, float | None] = field(default_factory=dict)


def with_record(turn: Turn, record: dict[str, Any] | None, end: float) -> None:
    """Add the stages of a latency record."""
    if record is not None:
        turn.stages = {stage: record.get(stage) for stage in STAGES}
        turn.speech_end = record["speech_end"] - (end + time.time() - time.monotonic())


async def over_websocket(url: str, turns: int, done: Callable[[Turn], None]) -> None:
    """Ask over one socket, question after question, each after the reply before it has ended."""
    async with LegacyClient(url, f"bench-{uuid.uuid4().hex[:8]}", query="events=1") as client:
        await client.message("ready")
        with contextlib.suppress(AssertionError):
            await client.reply(0, patience=8)  # a greeting
        for number in range(-1, turns):
            text, voice, speech = question(number % len(QUESTIONS) if number < 0 else number)
            await asyncio.sleep(random.uniform(0.3, 0.8))
            reply, records = client.ended, len(records_of(client))
            end = ended_at(len(speech), await client.say(pcm(speech)))
            turn = Turn("ws", text, voice)
            with contextlib.suppress(AssertionError):
                pieces = (await client.reply(reply, PATIENCE)).pieces
                audible = heard_at(pieces, 24_000)
                turn.first_packet = pieces[0][0] - end if pieces else None
                turn.first_audible = audible - end if audible else None
            with_record(turn, next(iter(records_of(client)[records:]), None), end)
            if number >= 0:
                done(turn)


def records_of(client: LegacyClient) -> list[dict[str, Any]]:
    """Latency records that have arrived."""
    return [message for message in client.messages if message["type"] == "turn"]


async def through_room(page: str, turns: int, done: Callable[[Turn], None]) -> None:
    """Ask in a room, question after question, each after the agent has been silent for a while."""
    async with RoomClient(page, f"bench-{uuid.uuid4().hex[:8]}") as client:
        await client.agent()
        with contextlib.suppress(AssertionError):
            await client.heard("agent", patience=8)  # a greeting
        for number in range(-1, turns):
            text, voice, speech = question(number % len(QUESTIONS) if number < 0 else number)
            await client.state("listening")
            await client.silence(0.5)
            await asyncio.sleep(random.uniform(0.0, 0.5))
            since, records = len(client.pieces), len(client.turns)
            end = ended_at(len(speech), await client.say(speech))
            turn = Turn("room", text, voice)
            with contextlib.suppress(AssertionError):
                await client.sound(0.1, since, PATIENCE)
                audible = heard_at([(piece.at, piece.samples) for piece in client.pieces[since:]], 24_000)
                turn.first_audible = audible - end if audible else None
                await client.turn(records)
            with_record(turn, next(iter(client.turns[records:]), None), end)
            if number >= 0:
                done(turn)


async def ask(wanted: Sequence[str], page: str, websocket: str, turns: int, done: Callable[[Turn], None]) -> None:
    """Ask over each transport in turn."""
    for transport in wanted:
        if transport == "ws":
            await over_websocket(websocket, turns, done)
        else:
            await through_room(page, turns, done)


def report(transport: str, turns: Sequence[Turn]) -> dict[str, dict[str, float]]:
    """Print a table for a transport; returns its figures."""
    figures: dict[str, dict[str, float]] = {}
    rows = {
        "first_packet": [turn.first_packet for turn in turns],
        "first_audible": [turn.first_audible for turn in turns],
        "speech_end": [turn.speech_end for turn in turns],
        **{stage: [turn.stages.get(stage) for turn in turns] for stage in STAGES},
    }
    print(f"\n{transport}: {len(turns)} turns, {sum(t.first_audible is None for t in turns)} unanswered")
    print(f"  {'seconds after end of speech':<28}{'p50':>8}{'p95':>8}{'max':>8}")
    for name, values in rows.items():
        known = [value for value in values if value is not None]
        if not known:
            continue
        p50, p95 = np.percentile(known, [50, 95])
        figures[name] = {"p50": round(float(p50), 4), "p95": round(float(p95), 4), "max": round(max(known), 4)}
        label = f"  {name}" if name in STAGES else name
        print(f"  {label:<28}{p50:8.3f}{p95:8.3f}{max(known):8.3f}")
    if "first_audible" in figures:
        goal = GOALS[transport]
        met = "met" if figures["first_audible"]["p50"] <= goal else "missed"
        print(f"  goal with embedded engines on 2 cores: p50 at most {goal:.2f} s: {met}")
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status: 1 where a question stayed unanswered."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=20, metavar="N", help="questions per transport (default 20)")
    parser.add_argument("--transport", choices=("ws", "room", "both"), default="both")
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=OUT / "voice_to_voice.json",
        metavar="FILE",
        help="write everything measured to a file (bench/out/voice_to_voice.json)",
    )
    parser.add_argument("--url", metavar="URL", help="page of a running stack, e.g. http://localhost:8080")
    parser.add_argument("--ws-url", metavar="URL", help="its WebSocket (default: port 8000 of the same host)")
    asked = parser.parse_args(arguments)
    if asked.turns < 1:
        parser.error("--turns must be at least 1")
    here = machine()
    print(f"{here['cpu']}, {here['cores']} cores, Python {here['python']}")
    turns: list[Turn] = []

    def done(turn: Turn) -> None:
        turns.append(turn)
        audible = "no answer" if turn.first_audible is None else f"{turn.first_audible:.3f} s"
        number = sum(other.transport == turn.transport for other in turns)
        print(f"  {turn.transport} {number}/{asked.turns}  {audible:>9}  {turn.voice}: {turn.question}", flush=True)

    measured: dict[str, Any] = {"machine": here, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    with serving(asked.url, asked.ws_url) as ground:
        wanted = ("ws", "room") if asked.transport == "both" else (asked.transport,)
        asyncio.run(ask(wanted, ground.page, ground.websocket, asked.turns, done))
    for transport in dict.fromkeys(turn.transport for turn in turns):
        measured[transport] = report(transport, [turn for turn in turns if turn.transport == transport])
    measured["turns"] = [asdict(turn) for turn in turns]
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(measured, indent=2), encoding="utf-8")
        print(f"\nwritten to {asked.json}")
    return int(any(turn.first_audible is None for turn in turns))


if __name__ == "__main__":
    sys.exit(main())
