"""What a load did: turns, delays, refusals, processor and memory by kind of process, and how memory grows."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bench.callers import Callers
from bench.processes import MB, PASSING, Sample
from bench.questions import STAGES
from bench.slope import slope
from bench.turn import Turn

LASTING, WHOLE = "lasting", "whole"
"""Rows for all processes but those of single utterances, and for all."""
WARM_UP = 0.25
"""Share of the talking time that doesn't count for the growth of memory."""
GOAL = 1.0
"""Seconds: the delay of 95 of 100 turns that a machine should keep under."""


def quantiles(values: Sequence[float | None]) -> dict[str, float] | None:
    """p50, p95 and the largest of the known ones, in seconds."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    p50, p95 = np.percentile(known, [50, 95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "max": round(max(known), 3)}


def of_turns(turns: Sequence[Turn]) -> dict[str, Any]:
    """How many were answered, and how fast."""
    return {
        "asked": len(turns),
        **{kind: sum(turn.outcome == kind for turn in turns) for kind in ("answered", "refused", "unanswered")},
        "refused_as": dict(Counter(turn.code for turn in turns if turn.code)),
        "barge_ins": sum(turn.barged_in for turn in turns),
        "barge_ins_not_heeded": sum(turn.yielded is False for turn in turns),
        "first_audible": quantiles([turn.first_audible for turn in turns]),
        **{stage: quantiles([turn.stages.get(stage) for turn in turns]) for stage in STAGES},
    }


def _sum(values: Mapping[str, float], kinds: Collection[str]) -> float:
    return sum(value for kind, value in values.items() if kind in kinds)


def of_processes(idle: Sample, samples: Sequence[Sample], people: int) -> dict[str, Any]:
    """Processor and memory by kind: before anybody talked, while all did, each conversation's share, and growth."""
    busy = samples[int(len(samples) * WARM_UP) :]
    if len(busy) < 2:
        return {}
    kinds = sorted({kind for sample in samples for kind in sample.memory})
    seconds = busy[-1].at - busy[0].at
    rows: dict[str, Any] = {}
    sums = {**{kind: {kind} for kind in kinds}, LASTING: {*kinds} - {PASSING}, WHOLE: {*kinds}}
    for kind, among in sums.items():
        memory = [_sum(each.memory, among) / MB for each in busy]
        before = _sum(idle.memory, among) / MB
        cpu = [_sum(each.cpu, among) for each in (busy[0], busy[-1])]
        counts = [_sum(each.count, among) for each in busy]
        growth = slope([each.at / 3600 for each in busy], memory)
        rows[kind] = {
            "processes": round(statistics.mean(counts), 1),
            # A fork's time moves to its recognizer's when it has ended; only the sums tell something of those two.
            "cpu_percent": round(100 * (cpu[1] - cpu[0]) / seconds, 1),
            "memory_mb_before": round(before, 1),
            "memory_mb": round(statistics.mean(memory), 1),
            "memory_mb_max": round(max(memory), 1),
            "growth_mb_per_hour": None if growth is None else {k: round(v, 1) for k, v in asdict(growth).items()},
        }
    rows["each_conversation"] = {
        "cpu_percent": round(rows["whole"]["cpu_percent"] / people, 1),
        "memory_mb": round((rows["whole"]["memory_mb"] - rows["whole"]["memory_mb_before"]) / people, 1),
    }
    return rows


def figures(callers: Callers, idle: Sample, samples: Sequence[Sample], people: int, own_cpu: float) -> dict[str, Any]:
    """Everything measured.

    Args:
        callers: Who talked.
        idle: The stack before anybody did.
        samples: The stack while they did.
        people: How many talked at once.
        own_cpu: Percent of a core that the callers themselves took.
    """
    transports = list(dict.fromkeys(turn.transport for turn in callers.turns))
    refused = [refusal for refusal in callers.refusals if refusal.code == "full"]
    return {
        "turns": {name: of_turns([turn for turn in callers.turns if turn.transport == name]) for name in transports},
        "refusals": {
            "full": len(refused),
            "other": len(callers.refusals) - len(refused),
            "seconds": quantiles([refusal.seconds for refusal in refused]),
        },
        "endless_replies": callers.endless,
        "processes": of_processes(idle, samples, people),
        "callers_cpu_percent": round(own_cpu, 1),
        "load_average": quantiles([sample.load for sample in samples]),
    }


def faults(measured: dict[str, Any]) -> int:
    """Turns neither answered nor refused, replies without an end, calls that failed otherwise than by a refusal."""
    unanswered: int = sum(turns["unanswered"] for turns in measured["turns"].values())
    return unanswered + int(measured["endless_replies"]) + int(measured["refusals"]["other"])


def show(measured: dict[str, Any]) -> None:
    """Print it for people."""
    for transport, turns in measured["turns"].items():
        print(
            f"\n{transport}: {turns['asked']} turns asked, {turns['answered']} answered, {turns['refused']} refused, "
            f"{turns['unanswered']} without an answer; {turns['barge_ins']} barge-ins, "
            f"{turns['barge_ins_not_heeded']} not heeded"
        )
        if turns["refused"]:
            print(f"  refused as {', '.join(f'{code}: {number}' for code, number in turns['refused_as'].items())}")
        print(f"  {'seconds after end of speech':<28}{'p50':>8}{'p95':>8}{'max':>8}")
        for name in ("first_audible", *STAGES):
            if turns[name]:
                label = f"  {name}" if name in STAGES else name
                print(f"  {label:<28}" + "".join(f"{turns[name][column]:8.3f}" for column in ("p50", "p95", "max")))
        if turns["first_audible"]:
            met = "met" if turns["first_audible"]["p95"] < GOAL else "missed"
            print(f"  goal: p95 under {GOAL:.0f} s: {met}")
    refusals = measured["refusals"]
    seconds = refusals["seconds"]
    told = f", told after {seconds['p50']:.3f} s (p95 {seconds['p95']:.3f})" if seconds else ""
    print(f"\ncalls refused as full: {refusals['full']}{told}; failed: {refusals['other']}")
    _show_processes(measured["processes"])
    load = measured["load_average"]
    print(f"\nthe callers themselves took {measured['callers_cpu_percent']:.0f} % of a core, not counted above")
    if load:
        print(f"load average of the machine: {load['p50']:.1f} (p95 {load['p95']:.1f})")


def _show_processes(rows: dict[str, Any]) -> None:
    if not rows:
        print("\ntoo short to say anything about processes")
        return
    print(f"\n  {'':<14}{'processes':>10}{'CPU %':>8}{'MB idle':>9}{'MB':>8}{'MB max':>8}   growth, MB an hour (95 %)")
    for kind, row in rows.items():
        if kind == "each_conversation":
            continue
        growth = row["growth_mb_per_hour"]
        grows = "-" if growth is None else f"{growth['value']:+.1f} ({growth['low']:+.1f} to {growth['high']:+.1f})"
        print(
            f"  {kind:<14}{row['processes']:>10.1f}{row['cpu_percent']:>8.1f}{row['memory_mb_before']:>9.1f}"
            f"{row['memory_mb']:>8.1f}{row['memory_mb_max']:>8.1f}   {grows}"
        )
    each = rows["each_conversation"]
    print(f"  each conversation: {each['cpu_percent']:.1f} % of a core, {each['memory_mb']:.1f} MB")
