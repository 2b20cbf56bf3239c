"""`launcher.py` itself, with real parts: what it starts, says, keeps secret, and leaves behind: nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from settings import GROUPS
from tests.e2e.stack import EMBEDDED, PORTS, answer, free_ports

ROOT = Path(__file__).resolve().parents[3]
MARK = "VOICE_NODE_TEST_LAUNCHER"
PATIENCE = 90.0
"""Seconds until a test gives up; far above what even a busy machine needs."""


class Launcher:
    """A launcher on ports and in a data folder of its own, started from a folder that is not the project's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.mark = secrets.token_hex(8)
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.process: subprocess.Popen[str] | None = None
        self.printed = folder / "printed"

    @property
    def environment(self) -> dict[str, str]:
        ours = {name.upper() for group in GROUPS for name in group.model_fields}
        return {
            **{name: value for name, value in os.environ.items() if name.upper() not in ours},
            **EMBEDDED,
            **{name: str(port) for name, port in self.ports.items()},
            "DATA_DIR": str(self.data),
            "ENV_FILE": str(self.folder / "no-such.env"),
            MARK: self.mark,
        }

    def start(self, *arguments: str) -> None:
        with self.printed.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "launcher.py"), *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [sys.executable, str(ROOT / "launcher.py"), *arguments],
            cwd=self.folder,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def wait_for(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, self.printed.read_text()
            time.sleep(0.05)

    def wait_until_ready(self) -> str:
        """Wait for its last words at the start; all it printed so far."""
        self.wait_for(lambda: "Ctrl-C stops everything" in self.printed.read_text())
        return self.printed.read_text()

    def signal(self, number: signal.Signals) -> int:
        """Send the launcher, and it alone, a signal; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def alive(self) -> dict[int, str]:
        """Process ids and command lines of all that is alive of this launcher, itself included."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    made = Launcher(tmp_path)
    try:
        yield made
    finally:
        for pid in made.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if made.process is not None:
            made.process.wait()


def test_a_subset_is_started_healthy_and_ctrl_c_leaves_nothing(launcher: Launcher) -> None:
    launcher.start("--services", "tts", "livekit", "chat")
    printed = launcher.wait_until_ready()
    for part in ("livekit", "chat", "tts"):
        assert f"  {part}" in printed
    for port in ("CHAT_PORT", "TTS_PORT"):
        assert answer(f"http://127.0.0.1:{launcher.ports[port]}/health")[0] == 200
    assert answer(f"http://127.0.0.1:{launcher.ports['STT_PORT']}/health")[0] == 0, "nobody asked for it"
    assert launcher.signal(signal.SIGINT) == 0
    assert launcher.alive() == {}


def test_the_secret_is_the_owners_alone(launcher: Launcher) -> None:
    launcher.start("--services", "livekit", "chat")
    printed = launcher.wait_until_ready()
    keys = launcher.data / "livekit.keys"
    assert keys.stat().st_mode & 0o777 == 0o600
    secret = keys.read_text().split(":")[1].strip()
    assert len(secret) >= 32
    assert secret not in printed
    assert not any(secret in command for command in launcher.alive().values())
    launcher.signal(signal.SIGTERM)
    assert launcher.alive() == {}
    for log in (launcher.data / "logs").iterdir():
        assert secret not in log.read_text()


def test_a_killed_launcher_takes_its_parts_with_it(launcher: Launcher) -> None:
    launcher.start("--services", "livekit", "stt")
    launcher.wait_until_ready()
    assert len(launcher.alive()) >= 4, "the launcher, its guardian and two parts"
    launcher.signal(signal.SIGKILL)
    launcher.wait_for(lambda: not launcher.alive())


def test_a_killed_guardian_changes_nothing(launcher: Launcher) -> None:
    launcher.start("--services", "livekit")
    launcher.wait_until_ready()
    (guardian,) = [pid for pid, command in launcher.alive().items() if "guardian.py" in command]
    os.kill(guardian, signal.SIGKILL)
    assert launcher.signal(signal.SIGINT) == 0
    assert launcher.alive() == {}


def test_a_part_that_is_killed_comes_back(launcher: Launcher) -> None:
    launcher.start("--services", "livekit")
    launcher.wait_until_ready()
    (part,) = [pid for pid, command in launcher.alive().items() if "--config=" in command]
    os.kill(part, signal.SIGKILL)
    launcher.wait_for(lambda: launcher.printed.read_text().count("ready  ws") == 2)
    assert "died (SIGKILL); starting it again in 1 s" in launcher.printed.read_text()
    assert launcher.signal(signal.SIGINT) == 0


def test_combined_logs_merge_what_the_parts_write_under_their_names(launcher: Launcher) -> None:
    launcher.start("--services", "livekit", "chat", "--combined-logs")
    launcher.wait_until_ready()
    launcher.signal(signal.SIGINT)
    lines = launcher.printed.read_text().splitlines()
    assert {line.split("|")[0].strip() for line in lines} == {"livekit", "chat", "launcher"}
    assert any(line.startswith("livekit") and "starting LiveKit server" in line for line in lines)
    assert not any("\033" in line for line in lines), "no colours where no terminal is"
    assert not (launcher.data / "logs").exists()


def test_without_combined_logs_each_part_has_its_file(launcher: Launcher) -> None:
    launcher.start("--services", "livekit")
    printed = launcher.wait_until_ready()
    launcher.signal(signal.SIGINT)
    assert "starting LiveKit server" not in printed
    assert "starting LiveKit server" in (launcher.data / "logs" / "livekit.log").read_text()


def test_a_port_in_use_is_one_clear_line_and_nothing_is_started(launcher: Launcher) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", launcher.ports["CHAT_PORT"]))
        other.listen()
        done = launcher.run("--services", "chat", "tts")
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"port {launcher.ports['CHAT_PORT']} (chat, CHAT_PORT): in use by " in line
    assert f"process {os.getpid()}" in line


def test_a_database_that_cannot_be_used_is_one_clear_line_and_the_end(launcher: Launcher) -> None:
    launcher.data.mkdir()
    (launcher.data / "voice-node.db").write_text("this is no database, only a text that is long enough to be looked at")
    done = launcher.run("--services", "chat")
    assert done.returncode == 1
    assert "the database can't be used" in done.stdout
    assert "chat" not in done.stdout
    assert launcher.alive() == {}


def test_a_newer_database_is_one_clear_line_and_the_end(launcher: Launcher) -> None:
    launcher.data.mkdir()
    with contextlib.closing(sqlite3.connect(launcher.data / "voice-node.db")) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.commit()
    done = launcher.run("--services", "chat")
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "database" in line]
    assert "the database can't be used" in line and "newer" in line


def test_a_missing_key_is_one_clear_line(launcher: Launcher) -> None:
    done = launcher.run("--services", "chat", LIVEKIT_URL="wss://example.org")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "set its LIVEKIT_API_KEY and LIVEKIT_API_SECRET" in line
    done = launcher.run("--services", "page", TLS="1", TLS_CERT="mine.pem")
    assert done.stderr == "launcher: TLS_KEY is not set: set both the certificate and its key, or neither\n"


def test_a_data_folder_that_is_none_is_one_clear_line(launcher: Launcher) -> None:
    launcher.data.write_text("a file")
    done = launcher.run("--services", "chat")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "set DATA_DIR" in line


def test_logs_that_cannot_be_written_stop_nothing(launcher: Launcher) -> None:
    launcher.data.mkdir()
    (launcher.data / "logs").write_text("in the way")
    launcher.start("--services", "livekit")
    printed = launcher.wait_until_ready()
    assert "WARNING: logs can't be written" in printed
    assert launcher.signal(signal.SIGINT) == 0


def test_a_frozen_livekit_server_does_not_stay_frozen(launcher: Launcher) -> None:
    launcher.start("--services", "livekit")
    launcher.wait_until_ready()
    (part,) = [pid for pid, command in launcher.alive().items() if "--config=" in command]
    os.kill(part, signal.SIGSTOP)
    launcher.wait_for(lambda: launcher.printed.read_text().count("ready  ws") == 2)
    assert "hung (no answer for 1" in launcher.printed.read_text()
    assert part not in launcher.alive()
    assert launcher.signal(signal.SIGINT) == 0


def test_an_unknown_part_is_refused_with_the_names_there_are(launcher: Launcher) -> None:
    done = launcher.run("--services", "server", "whisper")
    assert done.returncode == 2
    assert "no part 'whisper'; the parts are: livekit, stt, chat, tts, server, agent, page" in done.stderr


def test_a_wrong_setting_is_named_in_one_line(launcher: Launcher) -> None:
    done = launcher.run(STT_PORT="telephone")
    assert done.returncode == 2
    assert done.stderr.startswith("launcher: STT_PORT=telephone: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_doctor_looks_and_starts_nothing(launcher: Launcher) -> None:
    done = launcher.run("--services", "livekit", "chat", "--check")
    assert done.returncode == 0, done.stdout
    assert "ok    ports: all free" in done.stdout
    assert not launcher.data.exists()


def test_the_doctor_beside_a_running_stack_finds_it_well(launcher: Launcher) -> None:
    launcher.start("--services", "livekit", "chat")
    launcher.wait_until_ready()
    done = launcher.run("--services", "livekit", "chat", "--check")
    assert done.returncode == 0, done.stdout
    assert "ok    ports: in use by Voice Node (running)" in done.stdout
    assert "it answers and knows our key" in done.stdout
    assert (launcher.data / "livekit.keys").read_text().split(":")[1].strip() not in done.stdout
    assert launcher.signal(signal.SIGINT) == 0
