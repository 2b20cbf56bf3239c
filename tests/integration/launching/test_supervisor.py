"""Real processes under the supervisor: order, restarts, giving up, and ends that leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launching.parts import Part
from launching.supervisor import Supervisor
from tests.e2e.stack import free_ports

MARK = "VOICE_NODE_TEST_SUPERVISOR"

# A part: notes its starts in a file, may start a process of its own, may refuse to end, and answers for its health.
PROGRAM = """
import http.server, os, pathlib, signal, subprocess, sys, threading, time
notes, port, *manners = sys.argv[1:]
notes = pathlib.Path(notes)
with notes.open("a") as file:
    file.write("started\\n")
print("hello from", notes.stem, flush=True)
if "stubborn" in manners:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "parent" in manners:
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", child])
if "wordy" in manners:
    print("Traceback", flush=True)
if "hopeless" in manners:
    sys.exit(3)
if "mortal" in manners and notes.read_text().count("started") == 1:
    threading.Timer(1.0, os._exit, [7]).start()
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with notes.open("a") as file:
            file.write("healthy\\n")
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
time.sleep(0.3)
http.server.HTTPServer(("127.0.0.1", int(port)), Health).serve_forever()
"""


class Lines:
    """An output that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.lines: list[tuple[str, str]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def line(self, name: str, text: str) -> None:
        self.lines.append((name, text))

    def last(self, name: str) -> list[str]:
        return [f"last of {name}"]

    def close(self) -> None:
        pass


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Part]:
    """Makes a part by name, with manners and the parts it starts after."""
    program = tmp_path / "part.py"
    program.write_text(PROGRAM)

    def make(name: str, *manners: str, after: tuple[str, ...] = ()) -> Part:
        (port,) = free_ports(1)
        command = (sys.executable, str(program), str(tmp_path / name), str(port), *manners)
        return Part(name, command, (), f"http://127.0.0.1:{port}/", f"port {port}", after)

    return make


def supervisor(mark: str, output: Lines, *parts: Part) -> Supervisor:
    return Supervisor(parts, {**os.environ, MARK: mark}, output, pauses=(0.05, 0.05))


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that other processes do; the test's own limit ends it."""
    while not true():  # noqa: ASYNC110 - nothing in this process could set an event
        await asyncio.sleep(0.02)


def processes(mark: str) -> dict[int, str]:
    """Process ids and command lines of all that bears the mark."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def alive(mark: str) -> list[str]:
    """Command lines of the processes that bear the mark."""
    return list(processes(mark).values())


async def test_a_part_starts_only_when_those_it_needs_are_healthy(
    make: Callable[..., Part], mark: str, tmp_path: Path
) -> None:
    output = Lines()
    watched = supervisor(mark, output, make("first"), make("second", after=("first", "absent")))
    try:
        assert await watched.start()
    finally:
        await watched.stop()
    ready = [text.split()[0] for text in output.said]
    assert ready == ["first", "second"]
    assert output.lines[0] == ("first", "hello from first")
    assert (tmp_path / "second").stat().st_ctime_ns > (tmp_path / "first").stat().st_ctime_ns


async def test_a_part_waits_for_what_is_no_part_and_stays_out_where_that_fails(
    make: Callable[..., Part], mark: str, tmp_path: Path
) -> None:
    database: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    parts = (make("free"), make("waiting", after=("database",)))
    watched = Supervisor(parts, {**os.environ, MARK: mark}, Lines(), conditions={"database": database})
    start = asyncio.create_task(watched.start())
    try:
        await until(lambda: (tmp_path / "free").exists())
        database.set_result(False)
        await until(lambda: "healthy" in (tmp_path / "free").read_text())
        assert not (tmp_path / "waiting").exists()
    finally:
        await watched.stop()
        start.cancel()


async def test_a_part_that_dies_is_started_again_and_the_others_are_left_alone(
    make: Callable[..., Part], mark: str, tmp_path: Path
) -> None:
    output = Lines()
    watched = supervisor(mark, output, make("mortal", "mortal"), make("steady"))
    try:
        assert await watched.start()
        await until(lambda: (tmp_path / "mortal").read_text().count("started") == 2)
    finally:
        await watched.stop()
    assert any("mortal" in text and "died (exit status 7)" in text for text in output.said)
    assert (tmp_path / "steady").read_text().count("started") == 1
    assert watched.given_up == []


async def test_a_part_that_always_dies_is_given_up_loudly(make: Callable[..., Part], mark: str, tmp_path: Path) -> None:
    output = Lines()
    watched = supervisor(mark, output, make("hopeless", "hopeless"), make("steady"))
    try:
        assert not await watched.start()
    finally:
        await watched.stop()
    assert (tmp_path / "hopeless").read_text().count("started") == 3
    assert any("FAILED" in text and "3 times in a row" in text for text in output.said)
    assert watched.given_up == ["hopeless"]


@pytest.mark.parametrize(("manner", "more"), [("", False), ("wordy", True)])
async def test_a_part_that_ends_with_a_reason_shows_it_in_its_line(
    make: Callable[..., Part], mark: str, manner: str, more: bool
) -> None:
    output = Lines()
    watched = supervisor(mark, output, make("hopeless", "hopeless", manner))
    try:
        await watched.start()
    finally:
        await watched.stop()
    said = "Traceback" if more else "hello from hopeless"
    assert f"died (exit status 3: {said}); starting it again" in output.said[1 if more else 0]
    assert ("last of hopeless" in output.said) is more


async def test_a_frozen_part_is_killed_with_all_it_started_and_comes_back(
    make: Callable[..., Part], mark: str, tmp_path: Path
) -> None:
    output = Lines()
    parts = (make("frozen", "parent"), make("steady"))
    watched = Supervisor(parts, {**os.environ, MARK: mark}, output, pauses=(0.05, 0.05), hung_after=2.0)
    try:
        assert await watched.start()
        (group,) = {os.getpgid(pid) for pid, command in processes(mark).items() if str(tmp_path / "frozen") in command}
        before = set(processes(mark))
        os.killpg(group, signal.SIGSTOP)
        await until(lambda: (tmp_path / "frozen").read_text().count("started") == 2)
        await until(lambda: sum("ready" in text and "frozen" in text for text in output.said) == 2)
        assert len(before - set(processes(mark))) == 2, "the frozen one, and its child"
    finally:
        await watched.stop()
    assert any("frozen" in text and "hung (no answer for" in text for text in output.said)
    assert (tmp_path / "steady").read_text().count("started") == 1
    assert alive(mark) == []


async def test_a_part_that_is_frozen_for_a_moment_is_left_alone(
    make: Callable[..., Part], mark: str, tmp_path: Path
) -> None:
    watched = Supervisor((make("frozen"),), {**os.environ, MARK: mark}, Lines(), hung_after=60.0)
    try:
        assert await watched.start()
        (pid,) = processes(mark)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(1.5)
        os.kill(pid, signal.SIGCONT)
        asked = (tmp_path / "frozen").read_text().count("healthy")
        await until(lambda: (tmp_path / "frozen").read_text().count("healthy") > asked + 1)
        assert list(processes(mark)) == [pid]
    finally:
        await watched.stop()


async def test_when_every_part_is_given_up_it_is_over(make: Callable[..., Part], mark: str) -> None:
    watched = supervisor(mark, Lines(), make("hopeless", "hopeless"))
    try:
        await watched.start()
        await watched.all_gone()
    finally:
        await watched.stop()
    assert alive(mark) == []


async def test_a_program_that_is_not_there_is_a_death_like_any_other(mark: str) -> None:
    output = Lines()
    watched = supervisor(mark, output, Part("absent", ("/no/such/program",), (), "http://127.0.0.1:9/", ""))
    try:
        assert not await watched.start()
    finally:
        await watched.stop()
    assert any("could not be started" in text for text in output.said)


async def test_a_stop_ends_what_the_parts_have_started_as_well(make: Callable[..., Part], mark: str) -> None:
    watched = supervisor(mark, Lines(), make("parent", "parent"))
    await watched.start()
    assert len(alive(mark)) == 2
    await watched.stop()
    assert alive(mark) == []


async def test_a_part_that_will_not_end_is_killed_after_the_grace(make: Callable[..., Part], mark: str) -> None:
    output = Lines()
    watched = supervisor(mark, output, make("stubborn", "stubborn", "parent"))
    await watched.start()
    await watched.stop(grace=0.2)
    assert alive(mark) == []
    assert any("did not end within 0.2 s, killed" in text for text in output.said)


async def test_a_stop_in_the_middle_of_the_start_leaves_nothing(make: Callable[..., Part], mark: str) -> None:
    watched = supervisor(mark, Lines(), make("first"), make("second", after=("first",)))
    start = asyncio.create_task(watched.start())
    await until(lambda: bool(alive(mark)))
    await watched.stop()
    start.cancel()
    assert alive(mark) == []
