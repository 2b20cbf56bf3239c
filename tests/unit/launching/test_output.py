"""What the launcher prints and keeps of its parts' output."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from launching import output
from launching.output import Combined, LogFiles, coloured


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_combined_logs_bear_the_name_of_the_part() -> None:
    stream = io.StringIO()
    combined = Combined(stream, ("stt", "server"), colour=False)
    combined.line("stt", "listening")
    combined.say("ready")
    assert stream.getvalue() == "stt      | listening\nlauncher | ready\n"


def test_room_tokens_are_left_out(tmp_path: Path) -> None:
    token = f"eyJhbGciOiJIUzI1NiJ9.eyJtZXRhZGF0YSI6InByaXZhdGUifQ.{'x-_' * 14}"
    stream = io.StringIO()
    Combined(stream, ("livekit",), colour=False).line("livekit", f"401 invalid authorization token: {token}, error")
    assert stream.getvalue().endswith("| 401 invalid authorization token: (token), error\n")
    files = LogFiles(io.StringIO(), tmp_path, ("livekit",))
    files.line("livekit", f"GET /rtc?access_token={token}&x=1")
    files.close()
    assert (tmp_path / "livekit.log").read_text() == "GET /rtc?access_token=(token)&x=1\n"


def test_each_name_has_a_colour_of_its_own() -> None:
    stream = io.StringIO()
    combined = Combined(stream, ("stt", "tts"), colour=True)
    combined.line("stt", "a")
    combined.line("tts", "b")
    first, second = stream.getvalue().splitlines()
    assert first.startswith("\033[") and first.endswith("\033[0ma")
    assert first.split("m")[0] != second.split("m")[0]


@pytest.mark.parametrize(
    ("stream", "env", "wanted"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_only_on_a_terminal_that_wants_it(stream: io.StringIO, env: dict[str, str], wanted: bool) -> None:
    assert coloured(stream, env) is wanted


def test_without_combined_logs_each_part_has_a_file_for_the_owner_only(tmp_path: Path) -> None:
    terminal = io.StringIO()
    files = LogFiles(terminal, tmp_path / "logs", ("stt", "tts"))
    files.line("stt", "listening")
    files.say("ready")
    files.close()
    log = tmp_path / "logs" / "stt.log"
    assert log.read_text() == "listening\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert terminal.getvalue() == "ready\n"


def test_a_start_puts_the_last_log_aside_and_keeps_three(tmp_path: Path) -> None:
    for number in range(6):
        files = LogFiles(io.StringIO(), tmp_path, ("stt",))
        files.line("stt", f"run {number}")
        files.close()
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"stt.log": "run 5\n", "stt.log.1": "run 4\n", "stt.log.2": "run 3\n", "stt.log.3": "run 2\n"}


def test_a_log_that_has_grown_large_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "LARGEST_FILE", 20)
    files = LogFiles(io.StringIO(), tmp_path, ("stt",))
    for number in range(4):
        files.line("stt", f"line number {number}")
    files.close()
    assert (tmp_path / "stt.log").read_text() == "line number 2\nline number 3\n"
    assert (tmp_path / "stt.log.1").read_text() == "line number 0\nline number 1\n"


def test_the_last_lines_are_at_hand_when_a_part_dies(tmp_path: Path) -> None:
    files = LogFiles(io.StringIO(), tmp_path, ("stt",))
    for number in range(20):
        files.line("stt", f"line {number}")
    files.close()
    last = files.last("stt")
    assert last[-2].strip() == "line 19"
    assert str(tmp_path / "stt.log") in last[-1]
    assert len(last) == output.LAST_LINES + 1


def test_logs_that_cannot_be_written_are_told_once_and_cost_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    terminal = io.StringIO()
    files = LogFiles(terminal, tmp_path / "logs", ("stt", "tts"))
    for number in range(3):
        files.line("stt", f"line {number}")
        files.line("tts", f"line {number}")
    (line,) = terminal.getvalue().splitlines()
    assert line.startswith("WARNING: logs can't be written") and str(tmp_path / "logs") in line
    assert files.last("stt")[-2].strip() == "line 2"
    assert "not kept" in files.last("stt")[-1]
    (tmp_path / "logs").unlink()
    files.line("stt", "again")
    files.line("tts", "again")
    assert terminal.getvalue().splitlines()[1:] == ["Logs are written again"]
    files.close()
    assert (tmp_path / "logs" / "stt.log").read_text() == "again\n"


def test_failing_writes_put_no_earlier_logs_aside(tmp_path: Path) -> None:
    LogFiles(io.StringIO(), tmp_path / "logs", ("stt",)).line("stt", "earlier")
    files = LogFiles(io.StringIO(), tmp_path / "logs", ("stt",))
    files.close()
    (tmp_path / "logs").rename(tmp_path / "kept")
    (tmp_path / "logs").write_text("in the way")
    for number in range(5):
        files.line("stt", f"line {number}")
    assert (tmp_path / "kept" / "stt.log.1").read_text() == "earlier\n"


def test_a_terminal_that_takes_nothing_ends_nothing() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    Combined(Full(), ("stt",), colour=False).line("stt", "listening")


def test_a_full_disk_is_told_in_the_systems_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(output._LogFile, "_open", lambda self: Path("/dev/full").open("wb", 0))  # noqa: SIM115
    terminal = io.StringIO()
    files = LogFiles(terminal, tmp_path, ("stt",))
    files.line("stt", "listening")
    files.line("stt", "and listening")
    (line,) = terminal.getvalue().splitlines()
    assert line.startswith("WARNING: logs can't be written") and "No space left on device" in line
    assert [text.strip() for text in files.last("stt")[:-1]] == ["listening", "and listening"]
    files.close()
