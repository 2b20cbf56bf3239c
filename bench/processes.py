"""What the processes of a stack use over time: processor seconds and memory by kind, read from /proc (Linux).

Memory is the proportional set size: pages that forked processes share count once, spread over them. Processor time
includes that of children which have ended, so that short-lived ones are not missed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench.ground import Ground

TICK = os.sysconf("SC_CLK_TCK")
MB = 1024 * 1024

KINDS = (
    ("launcher.py", "launcher"),
    ("guardian.py", "launcher"),
    ("pocketsphinx_worker", "recognizers"),
    ("compat_ws", "server"),
    ("services stt", "stt"),
    ("services chat", "chat"),
    ("services tts", "tts"),
    ("token_server", "page"),
    ("livekit-server", "livekit"),
    ("multiprocessing.forkserver", "room jobs"),
    ("agent/main.py", "agent"),
)
"""What tells a process's kind in its command line; another process is of its parent's kind."""


PASSING = "utterances"
"""A recognizer's fork for one utterance: a child of its own kind, gone within seconds."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment: processor seconds with those of its ended children, bytes of memory."""

    pid: int
    parent: int
    command: str
    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A stack at one moment, by kind of process.

    Attributes:
        at: Monotonic seconds.
        cpu: Processor seconds since the kind's processes began.
        memory: Bytes.
        count: Processes.
        load: The machine's load average over a minute.
    """

    at: float
    cpu: dict[str, float]
    memory: dict[str, int]
    count: dict[str, int]
    load: float

    @property
    def whole_memory(self) -> int:
        """Bytes of all kinds."""
        return sum(self.memory.values())

    @property
    def whole_cpu(self) -> float:
        """Processor seconds of all kinds."""
        return sum(self.cpu.values())


def read_process(pid: int) -> Process | None:
    """A process as it is now; None where it has ended or isn't ours to look at."""
    folder = Path("/proc") / str(pid)
    try:
        # The name in parentheses may hold anything; the fields begin after the last one closes.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        rollup = (folder / "smaps_rollup").read_text()
    except OSError:
        return None
    memory = next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return Process(pid, int(fields[1]), command, sum(map(int, fields[11:15])) / TICK, memory)


def kind_of(pid: int, processes: Mapping[int, Process]) -> str:
    """What kind of process it is, by its own command or that of its nearest ancestor that tells."""
    while (process := processes.get(pid)) is not None:
        for sign, kind in KINDS:
            if sign in process.command:
                above = processes.get(process.parent)
                passing = kind == "recognizers" and above is not None and sign in above.command
                return PASSING if passing else kind
        pid = process.parent
    return "other"


def sample(pids: Iterable[int]) -> Sample:
    """Look at these processes now."""
    processes = {process.pid: process for pid in pids if (process := read_process(pid)) is not None}
    cpu: dict[str, float] = {}
    memory: dict[str, int] = {}
    count: dict[str, int] = {}
    for pid, process in processes.items():
        kind = kind_of(pid, processes)
        cpu[kind] = cpu.get(kind, 0.0) + process.cpu
        memory[kind] = memory.get(kind, 0) + process.memory
        count[kind] = count.get(kind, 0) + 1
    return Sample(time.monotonic(), cpu, memory, count, os.getloadavg()[0])


def processes_of(ground: Ground) -> Callable[[], Iterable[int]]:
    """Gives the process ids of a stack, again at each call: room jobs come and go."""
    if ground.stack is not None:
        return ground.stack.processes
    ports = {urlsplit(ground.page).port, urlsplit(ground.websocket).port}
    return lambda: _family(ports)


def _family(ports: set[int | None]) -> set[int]:
    """Whoever listens on these ports, the launcher above them, and all below it."""
    roots = set()
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports and connection.pid:
            process = psutil.Process(connection.pid)
            launchers = [one for one in process.parents() if "launcher.py" in " ".join(one.cmdline())]
            roots.add(launchers[0] if launchers else process)
    return {one.pid for root in roots for one in (root, *root.children(recursive=True))}
