"""The load test itself, short: callers over both transports, all turns answered, figures for every kind of process."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.e2e.stack import ROOT, Stack


def test_people_talk_at_once_and_every_turn_is_answered_or_refused(stack: Stack, tmp_path: Path) -> None:
    written = tmp_path / "load.json"
    addresses = ["--url", stack.page, "--ws-url", stack.compat]
    command = [sys.executable, "bench/load.py", *addresses, "--conversations", "2", "--rooms", "1", "--minutes", "0.6"]
    command += ["--patience", "60"]
    run = subprocess.run(
        [*command, "--json", str(written)], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    measured = json.loads(written.read_text(encoding="utf-8"))
    assert set(measured["turns"]) == {"websocket", "room"}
    assert all(turns["answered"] > 0 and turns["unanswered"] == 0 for turns in measured["turns"].values())
    assert {"server", "room jobs", "recognizers", "livekit"} <= set(measured["processes"])
    assert measured["processes"]["recognizers"]["cpu_percent"] > 0
    assert counted(stack, "COMPAT_PORT", "conversations", "websocket") >= 2
    assert counted(stack, "COMPAT_PORT", "replies", "websocket") >= 1
    assert counted(stack, "AGENT_PORT", "conversations", "room") >= 1, "a job's happenings reach its worker's metrics"
    assert counted(stack, "AGENT_PORT", "replies", "room") >= 1


def counted(stack: Stack, port: str, happening: str, transport: str) -> float:
    """How often something happened, as a part's metrics say."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.ports[port]}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    wanted = f'voice_node_{happening}_total{{transport="{transport}"}} '
    return next((float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted)), 0.0)
