"""The command line: what it says of itself, what it refuses, and that its files get in nobody's way."""

from __future__ import annotations

import asyncio
import importlib.machinery
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from watchfiles import Change

from agent.commands import main, parser
from agent.downloads import EMBEDDED, KNOWN, DownloadError, Downloads
from agent.job_process import PANICKED
from agent.reload import CodeFilter, run_reloading, watched
from agent.turns import HEARD, TurnCounter
from agent.worker import proxy_for
from conversation.latency import LatencyHistograms
from settings import Settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("command", ["start", "dev", "console", "download-files"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.split()) > 20


def test_drain_takes_seconds() -> None:
    assert parser().parse_args(["start", "--drain", "2.5"]).drain == 2.5
    with pytest.raises(SystemExit):
        parser().parse_args(["start", "--drain", "-1"])


def test_nothing_embedded_needs_a_download(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download-files"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in EMBEDDED)
    assert main(["download-files", "espeak"]) == 0


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_engines_that_are_not_here_yet_are_refused_by_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download-files", name]) == 1
    assert name in capsys.readouterr().err


def test_unknown_engines_are_refused_with_what_there_is() -> None:
    with pytest.raises(DownloadError, match="whisper, chat, xtts"):
        Downloads(Settings()).run(["bert"])


def test_our_files_shadow_no_module() -> None:
    """Python puts agent/ first on its path when it runs agent/main.py."""
    elsewhere = [entry for entry in sys.path if entry and Path(entry).resolve() != ROOT / "agent"]
    for file in (ROOT / "agent").glob("*.py"):
        if file.stem != "__init__":
            assert file.stem not in sys.stdlib_module_names
            assert importlib.machinery.PathFinder.find_spec(file.stem, elsewhere) is None, file.stem


def test_run_as_a_file_our_modules_are_found_once() -> None:
    script = (
        "import runpy, sys; sys.path.insert(0, 'agent'); runpy.run_path('agent/main.py', run_name='other');"
        "import agent.commands, importlib.util; print(importlib.util.find_spec('commands'))"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "None"


def test_loopback_never_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    monkeypatch.setenv("https_proxy", "http://proxy:2")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_for("ws://127.0.0.1:7880") is None
    assert proxy_for("ws://localhost:7880") is None
    assert proxy_for("wss://inside.example") is None
    assert proxy_for("wss://outside.example") == "http://proxy:2"
    assert proxy_for("ws://outside.example") == "http://proxy:1"


def test_turns_of_all_jobs_are_counted_from_their_log_lines() -> None:
    registry = CollectorRegistry()
    counter = TurnCounter(LatencyHistograms(registry))
    log = logging.Logger("test")
    log.addHandler(counter)
    record = {"turn": 1, "commit": 0.2, "transcript": 0.1, "first_token": None, "first_audio": 0, "sent": 0.3}
    log.info("turn", extra={"record": record | {"heard": None}})
    log.info(HEARD, extra={"record": record | {"heard": 0.4}})
    log.info("something else")
    page = generate_latest(registry).decode()
    assert 'voice_node_turn_seconds_count{stage="sent",transport="room"} 1.0' in page
    assert 'voice_node_turn_seconds_count{stage="first_audio",transport="room"} 1.0' in page
    assert 'voice_node_turn_seconds_count{stage="heard",transport="room"} 1.0' in page
    assert "first_token" not in page


def test_code_and_personalities_are_watched() -> None:
    folders = watched()
    assert ROOT / "agent" in folders and ROOT / "conversation" in folders
    watch = CodeFilter()
    assert watch(Change.modified, str(ROOT / "agent" / "job.py"))
    assert watch(Change.modified, str(ROOT / "personalities" / "one.yaml"))
    assert not watch(Change.modified, str(ROOT / "agent" / "__pycache__" / "job.cpython-311.pyc"))


async def test_a_change_starts_the_worker_anew_and_a_signal_ends_it(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    starts = tmp_path / "starts"
    script = tmp_path / "worker.py"
    script.write_text(
        f"import pathlib, time\nwith pathlib.Path({str(starts)!r}).open('a') as f:\n    f.write('started\\n')\n"
        "time.sleep(60)\n"
    )

    async def started(times: int) -> None:
        while not starts.exists() or len(starts.read_text().splitlines()) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    running = asyncio.create_task(run_reloading([sys.executable, str(script)], [code]))
    await asyncio.wait_for(started(1), 30)
    await asyncio.sleep(0.5)  # the watcher may begin after the process
    (code / "new.py").write_text("x = 1\n")
    await asyncio.wait_for(started(2), 30)
    signal.raise_signal(signal.SIGTERM)
    assert await asyncio.wait_for(running, 30) == 0


def test_a_panic_of_the_native_part_ends_a_job_that_ignores_signals() -> None:
    script = (
        "import ctypes, signal\n"
        "from types import SimpleNamespace\n"
        "from livekit.rtc import _ffi_client\n"
        "from livekit.rtc._proto import ffi_pb2\n"
        "from agent.job_process import prepare\n"
        "prepare(SimpleNamespace(userdata={}))\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "event = ffi_pb2.FfiEvent()\n"
        "event.panic.message = 'gone'\n"
        "data = event.SerializeToString()\n"
        "buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)\n"
        "_ffi_client.ffi_event_callback(buffer, len(data))\n"
        "print('still here')\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == PANICKED, ran.stderr
    assert "gone" in ran.stderr
    assert "still here" not in ran.stdout
