"""When an event loop counts as standing still, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time

import pytest

from engines.watchdog import LOGGER
from services.loop_watch import STALLED_AFTER, StallPolicy, watched_loop
from tests.livekit_server import ROOT


def looks(policy: StallPolicy, *seconds: float) -> list[str]:
    """The verdicts of looks so far apart, in which the loop never answers."""
    return [policy.look(False, each) for each in seconds]


def test_a_loop_that_answers_is_well() -> None:
    policy = StallPolicy()
    assert [policy.look(True, 0.25) for _ in range(20)] == ["well"] * 20


def test_a_stall_is_told_once_within_two_seconds() -> None:
    verdicts = looks(StallPolicy(), *[0.25] * 40)
    assert verdicts.count("stalled") == 1
    assert (verdicts.index("stalled") + 1) * 0.25 <= 2.0


def test_the_next_stall_is_told_again() -> None:
    policy = StallPolicy()
    assert "stalled" in looks(policy, *[0.25] * 8)
    policy.look(True, 0.25)
    assert "stalled" in looks(policy, *[0.25] * 8)


def test_a_process_that_was_frozen_as_a_whole_has_no_stalled_loop() -> None:
    assert looks(StallPolicy(hopeless_after=3.0), 0.25, 60.0) == ["well", "well"]


def test_a_stall_without_end_is_hopeless_only_where_that_was_asked_for() -> None:
    assert looks(StallPolicy(hopeless_after=3.0), *[0.25] * 12)[-1] == "hopeless"
    assert "hopeless" not in looks(StallPolicy(), *[0.25] * 400)


def hold_up(seconds: float) -> None:
    secret = "nobody may read this in a log"
    time.sleep(seconds)
    del secret


async def test_a_blocking_call_is_told_with_its_place_and_without_its_values(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        async with watched_loop():
            await asyncio.sleep(0)
            hold_up(STALLED_AFTER + 2.0)
    (told,) = [record for record in caplog.records if record.name == LOGGER]
    assert told.__dict__["watchdog"] == "stalled_loop"
    assert "test_loop_watch.py" in told.__dict__["at"] and "hold_up" in told.__dict__["at"]
    assert "nobody may read" not in str(told.__dict__)


def test_a_job_whose_loop_stands_still_for_good_ends_itself() -> None:
    script = (
        "import asyncio, time\n"
        "import agent.job_process as jobs\n"
        "jobs.STALLED_FOR = 1.5\n"
        "async def job() -> None:\n"
        "    jobs.watch_loop()\n"
        "    time.sleep(60)\n"
        "asyncio.run(job())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=45, check=False, capture_output=True)
    assert ended.returncode == 73, ended.stderr
    assert b"stands still for good" in ended.stderr
