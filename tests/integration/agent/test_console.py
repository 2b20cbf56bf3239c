"""The terminal as a transport: typed, by standard input and output, without any audio library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.agent.worker_process import EMBEDDED
from tests.livekit_server import ROOT


def console(folder: Path, lines: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `console` with these lines on its standard input; a broken audio library lies in wait."""
    broken = folder / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "sounddevice.py").write_text('raise OSError("PortAudio library not found")\n')
    search = os.pathsep.join(filter(None, [str(broken), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, str(ROOT / "agent" / "main.py"), "console", *arguments],
        input=lines,
        env=os.environ | EMBEDDED | {"DATA_DIR": str(folder / "data"), "PYTHONPATH": search} | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_typed_lines_are_answered_and_the_end_of_input_ends_it(tmp_path: Path) -> None:
    ended = console(tmp_path, "Hello!\n\nWhat is your name?\n", "--text")
    assert ended.returncode == 0, ended.stderr
    said = [line for line in ended.stdout.splitlines() if line.startswith("agent: ")]
    assert len(said) == 3, "a greeting and two answers; the empty line is none"
    assert all(line.removeprefix("agent: ").strip() for line in said)
    assert "espeak" in ended.stdout and "companion" in ended.stdout, "says what answers"
    assert ended.stderr == ""


def test_a_named_session_goes_on_where_it_was(tmp_path: Path) -> None:
    first = console(tmp_path, "My name is Bob.\n", "--text", "--session", "mine")
    assert first.returncode == 0, first.stderr
    second = console(tmp_path, "What is my name?\n", "--text", "--session", "mine")
    said = [line for line in second.stdout.splitlines() if line.startswith("agent: ")]
    assert len(said) == 1, "no second greeting"
    assert "Bob" in said[0]


@pytest.mark.parametrize("arguments", [(), ("--list-devices",)])
def test_without_the_audio_library_it_names_the_package_and_offers_text(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    ended = console(tmp_path, "", *arguments)
    assert ended.returncode == 1
    assert "libportaudio2" in ended.stderr and "--text" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_engine_that_is_unknown_is_one_line(tmp_path: Path) -> None:
    ended = console(tmp_path, "", "--text", STT="nonsense")
    assert ended.returncode == 1
    assert "nonsense" in ended.stderr and "Traceback" not in ended.stderr
