"""What the load test may be pointed at, and what it makes of what it saw."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from bench import load_report
from bench.callers import Callers
from bench.load import NotHere, check_local
from bench.processes import MB, Sample, kind_of, read_process
from bench.slope import slope
from bench.turn import Refusal, Turn


@pytest.mark.parametrize("address", ["http://localhost:8080", "ws://127.0.0.1:8000", "http://[::1]:8080", None, ""])
def test_load_is_made_on_this_machine(address: str | None) -> None:
    check_local(address)


@pytest.mark.parametrize("address", ["http://192.0.2.7:8080", "ws://0.0.0.0:8000", "http://no-such-host.invalid"])
def test_load_on_another_machine_is_refused(address: str) -> None:
    with pytest.raises(NotHere, match="localhost only"):
        check_local("http://localhost:8080", address)


def test_steady_growth_is_found_among_noise_and_jumps() -> None:
    dice = np.random.default_rng(1)
    hours = np.arange(240) / 240
    memory = 500 + 24.0 * hours + dice.normal(0, 1, 240)
    memory[60:72] += 200  # a process that came and went
    found = slope(list(hours), list(memory))
    assert found is not None
    assert found.value == pytest.approx(24, abs=5)
    assert found.low < found.value < found.high
    assert not found.flat


def test_memory_that_only_wavers_is_flat() -> None:
    dice = np.random.default_rng(2)
    found = slope(list(np.arange(240) / 240), list(500 + dice.normal(0, 5, 240)))
    assert found is not None and found.flat


def test_a_few_samples_say_nothing_of_growth() -> None:
    assert slope([0, 1, 2], [1, 2, 3]) is None


def sampled(at: float, cpu: float, memory: float) -> Sample:
    return Sample(at, {"server": cpu, "room jobs": 1.0}, {"server": int(memory * MB), "room jobs": 50 * MB}, {}, 1.0)


def test_the_report_counts_turns_refusals_and_each_conversations_share() -> None:
    async def made() -> Callers:
        return Callers("http://localhost:1", "ws://localhost:2")

    callers = asyncio.run(made())
    callers.turns = [
        Turn("websocket", 0, 1.0, "a", outcome="answered", first_audible=0.3, stages={"commit": 0.2}),
        Turn("websocket", 0, 2.0, "b", outcome="answered", first_audible=0.5, barged_in=True, yielded=False),
        Turn("websocket", 1, 3.0, "c", outcome="refused"),
        Turn("room", 0, 3.0, "d", why="nothing audible"),
    ]
    callers.refusals = [Refusal("websocket", 1.0, 0.01, "full"), Refusal("room", 1.0, 9.0, "unreachable")]
    samples = [sampled(float(at), at * 0.4, 120) for at in range(20)]
    measured = load_report.figures(callers, sampled(0, 0, 100), samples, 2, 5.0)
    assert measured["turns"]["websocket"]["answered"] == 2
    assert measured["turns"]["websocket"]["refused"] == 1
    assert measured["turns"]["websocket"]["barge_ins_not_heeded"] == 1
    assert measured["turns"]["websocket"]["first_audible"]["p50"] == pytest.approx(0.4)
    assert measured["turns"]["room"]["unanswered"] == 1
    assert measured["refusals"] == {"full": 1, "other": 1, "seconds": {"p50": 0.01, "p95": 0.01, "max": 0.01}}
    assert measured["processes"]["server"]["cpu_percent"] == 40
    assert measured["processes"]["each_conversation"] == {"cpu_percent": 20, "memory_mb": 10}
    assert load_report.faults(measured) == 2, "an unanswered turn and a call that failed"
    load_report.show(measured)


def test_a_process_is_of_the_kind_its_command_or_its_ancestors_tell() -> None:
    script = "import subprocess, sys; subprocess.run(['sleep', '30'])"
    with subprocess.Popen([sys.executable, "-c", script, "compat_ws"]) as parent:
        try:
            processes = {}
            deadline = time.monotonic() + 20
            while not any(process.parent == parent.pid for process in processes.values()):
                assert time.monotonic() < deadline
                pids = [parent.pid, *(child.pid for child in psutil.Process(parent.pid).children())]
                processes = {pid: seen for pid in pids if (seen := read_process(pid)) is not None}
            kinds = {kind_of(pid, processes) for pid in processes}
            assert kinds == {"server"}
            assert all(process.memory > 0 for process in processes.values())
        finally:
            for pid in sorted(processes, reverse=True):
                os.kill(pid, signal.SIGKILL)
