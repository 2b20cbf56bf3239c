"""The worker process: its start, its places, its end, and what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from livekit import rtc

from agent.job_process import ORPHANED, OVERDUE
from library import Library
from library.errors import DatabaseError
from settings import Settings
from tests.e2e.room_client import RoomClient
from tests.integration.agent.worker_process import EMBEDDED, AgentProcess, health, running_agent
from tests.livekit_server import ROOT, LiveKitServer, free_port


def eventually(true: Callable[[], bool], what: str, patience: float = 60.0) -> None:
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, f"not within {patience:.0f} s: {what}"
        time.sleep(0.1)


async def gone(processes: list[psutil.Process], within: float = 10.0) -> None:
    """Return once none of them runs."""

    def all_ended() -> bool:
        return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)

    await asyncio.to_thread(eventually, all_ended, "all processes gone", within)


def family(agent: AgentProcess) -> list[psutil.Process]:
    """The worker's processes below itself."""
    return psutil.Process(agent.process.pid).children(recursive=True)


def alone(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the agent's command line to its end."""
    return subprocess.run(
        [sys.executable, str(ROOT / "agent" / "main.py"), *arguments],
        env=os.environ | EMBEDDED | {"DATA_DIR": str(folder / "data")} | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_a_job_ends_with_its_worker_and_at_its_deadline_whatever_holds_it() -> None:
    script = (
        "import os, signal, subprocess, sys, time\n"
        "from types import SimpleNamespace\n"
        "import agent.job_process as jobs\n"
        "jobs.ORPHAN_GRACE = 0.1\n"
        "worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "if sys.argv[1] == 'orphan':\n"
        "    sys.modules['agent.preload'] = SimpleNamespace(WORKER=worker.pid)\n"
        "    jobs.prepare(SimpleNamespace(userdata={}))\n"
        "else:\n"
        "    jobs.end_within(0.1)\n"
        "worker.kill()\n"
        "worker.wait()\n"
        "time.sleep(60)\n"
    )
    for why, code in (("orphan", ORPHANED), ("deadline", OVERDUE)):
        ended = subprocess.run([sys.executable, "-c", script, why], cwd=ROOT, timeout=45, check=False)
        assert ended.returncode == code


def test_a_taken_port_is_named_with_the_setting_that_changes_it(server: LiveKitServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = alone(server.environment | {"AGENT_PORT": str(port)}, tmp_path, "start")
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr and "AGENT_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_setting_that_cannot_be_used_is_one_line(server: LiveKitServer, tmp_path: Path) -> None:
    ended = alone(server.environment | {"STT": "nonsense"}, tmp_path, "start")
    assert ended.returncode == 1
    assert "nonsense" in ended.stderr and "Traceback" not in ended.stderr
    ended = alone(server.environment | {"LIVEKIT_API_SECRET": "short"}, tmp_path, "start")
    assert ended.returncode == 1
    assert "LIVEKIT_API_SECRET" in ended.stderr and "Traceback" not in ended.stderr


def test_without_livekit_server_it_is_unhealthy_says_so_and_waits(server: LiveKitServer, tmp_path: Path) -> None:
    port, nobody = free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "agent" / "main.py"), "start"],
        env=os.environ
        | EMBEDDED
        | server.environment
        | {"AGENT_PORT": str(port), "DATA_DIR": str(tmp_path / "data"), "LIVEKIT_URL": f"ws://127.0.0.1:{nobody}"},
        cwd=tmp_path,
    )
    try:
        eventually(lambda: health(port)["status_code"] == 503, "the health page")
        assert f"127.0.0.1:{nobody}" in health(port)["reason"]
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


async def test_a_full_worker_takes_no_further_room(server: LiveKitServer, page: str, tmp_path: Path) -> None:
    with running_agent(server, tmp_path, MAX_CONVERSATIONS="1") as agent:
        async with RoomClient(page, "full 1") as ann:
            await ann.agent()
            assert (agent.health()["held"], agent.health()["limit"]) == (1, 1)
            async with RoomClient(page, "full 2") as bob:
                await asyncio.to_thread(
                    eventually, lambda: "every place is taken" in agent.written(), "the second room's refusal"
                )
                assert not [one for one in bob.room.remote_participants.values() if agent_kind(one)]
                assert agent.health()["held"] == 1
            assert agent.health()["status_code"] == 200, "full is not unwell"


def agent_kind(participant: rtc.RemoteParticipant) -> bool:
    return participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT


async def test_sigterm_lets_conversations_end_and_takes_no_new_ones(
    server: LiveKitServer, page: str, tmp_path: Path
) -> None:
    with running_agent(server, tmp_path, "--drain", "60") as agent:
        async with RoomClient(page, "draining") as ann:
            await ann.agent()
            await ann.heard("agent")
            agent.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(1.0)
            await ann.room.local_participant.send_text("Are you still there?", topic="lk.chat")
            assert await ann.heard("agent", 1)
            assert agent.process.poll() is None
        assert await asyncio.to_thread(agent.process.wait, 60) == 0


async def test_sigint_ends_at_once_leaving_conversations_to_be_taken_up(
    server: LiveKitServer, page: str, tmp_path: Path
) -> None:
    with running_agent(server, tmp_path) as agent:
        async with RoomClient(page, "stopping", session_id="stopped") as ann:
            identity = (await ann.agent()).identity
            await ann.heard("agent")
            await ann.sound(0.8)
            before = family(agent)
            assert len(before) >= 3, "fork server, its tracker, the job"
            assert await asyncio.to_thread(agent.stop, signal.SIGINT) == 0
            await gone(before)
            assert identity not in ann.room.remote_participants
        settings = Settings()
        settings.storage = settings.storage.model_copy(update={"data_dir": Path(agent.environment["DATA_DIR"])})
        library = await Library.open(settings)
        try:
            lease = await library.leases.get("stopped")
            assert lease is not None, "it expires, and the token server finds who goes on"
            assert lease.metadata["room"] == "stopping"
            said = await library.conversations.messages("stopped")
            assert [message.role for message in said] == ["assistant"], "the greeting is kept"
            assert not await library.leases.holders() or await expire(library)
        finally:
            await library.aclose()


async def expire(library: Library) -> bool:
    """Whether the processes that are gone are off the list within the time a lease lasts."""
    for _ in range(30):
        try:
            if not await library.leases.holders():
                return True
        except DatabaseError:
            pass
        await asyncio.sleep(0.1)
    return False


async def test_a_signal_to_the_whole_process_group_ends_in_good_order(
    server: LiveKitServer, page: str, tmp_path: Path
) -> None:
    with running_agent(server, tmp_path, "--drain", "0") as agent:
        async with RoomClient(page, "group") as ann:
            await ann.heard("agent")
            before = family(agent)
            os.killpg(agent.process.pid, signal.SIGTERM)
            assert await asyncio.to_thread(agent.process.wait, 30) == 0
            await gone(before)
        assert "job ended" in agent.written(), "the job stored what was said"


async def test_a_killed_worker_leaves_no_process_behind(server: LiveKitServer, page: str, tmp_path: Path) -> None:
    with running_agent(server, tmp_path) as agent:
        async with RoomClient(page, "killed") as ann:
            await ann.agent()
            children = family(agent)
            agent.process.kill()
            await gone(children, within=30.0)
