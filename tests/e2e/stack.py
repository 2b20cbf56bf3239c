"""The whole of Voice Node through its real launcher, on free ports, with a data folder of its own.

    with Stack(folder, log).running() as stack:
        stack.page, stack.compat, ...

Nothing of the surroundings gets in: neither a `.env` nor variables of ours that happen to be set. Every
process the launcher starts is known by a mark in its environment, so that what it leaves behind is found.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from settings import GROUPS

ROOT = Path(__file__).resolve().parents[2]
MARK = "VOICE_NODE_TEST_STACK"
PORTS = (
    "PAGE_PORT",
    "COMPAT_PORT",
    "STT_PORT",
    "CHAT_PORT",
    "TTS_PORT",
    "AGENT_PORT",
    "LIVEKIT_PORT",
    "LIVEKIT_TCP_PORT",
    "LIVEKIT_UDP_PORT",
)
UNHURRIED = {"STT_DEADLINE": "15", "TTS_DEADLINE": "15"}
"""Deadlines of engines where other tests run beside: a machine that is busy with those has no fault."""
EMBEDDED = {"STT": "pocketsphinx", "CHAT": "companion", "TTS": "espeak"} | UNHURRIED


def free_ports(count: int) -> list[int]:
    """Ports free for TCP and UDP on loopback.

    They lie below the range from which the system takes ports for outgoing connections, so that none of
    those can take one between now and the moment a part binds it.
    """
    taken: list[int] = []
    while len(taken) < count:
        port = random.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as open_sockets:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                tried = open_sockets.enter_context(socket.socket(socket.AF_INET, kind))
                tried.bind(("127.0.0.1", port))
            if port not in taken:
                taken.append(port)
    return taken


@dataclass
class Stack:
    """One run of the launcher.

    Attributes:
        folder: Working and data folder, fresh unless a run is to be continued.
        log: File that takes all parts' output.
        services: What to start, as for `--services`; empty for everything.
        environment: Variables on top.
        patience: Seconds until it must serve.
    """

    folder: Path
    log: Path
    services: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    patience: float = 150.0

    def __post_init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def page(self) -> str:
        """Address of the page and the token endpoint."""
        return f"http{self._secure}://127.0.0.1:{self.ports['PAGE_PORT']}"

    @property
    def compat(self) -> str:
        """Address of the legacy WebSocket."""
        return f"ws{self._secure}://127.0.0.1:{self.ports['COMPAT_PORT']}"

    @property
    def authority(self) -> Path:
        """What signed the certificate that it serves where `TLS` is on and it made one."""
        return self.folder / "data" / "tls" / "authority.pem"

    @property
    def trust(self) -> ssl.SSLContext | None:
        """How its addresses are reached where `TLS` is on and it made its certificate, as it has by then."""
        if not self._secure or not self.authority.exists():
            return None
        return ssl.create_default_context(cafile=str(self.authority))

    @property
    def key(self) -> str:
        """The key that callers need; empty where none is set."""
        return self.environment.get("API_KEYS", "").partition(",")[0]

    @property
    def _secure(self) -> str:
        return "s" if self.environment.get("TLS") == "1" else ""

    def service(self, kind: str) -> str:
        """Address of a service: `stt`, `chat` or `tts`."""
        return f"http://127.0.0.1:{self.ports[f'{kind.upper()}_PORT']}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Stack]:
        """Start it, wait until it serves, and stop it as Ctrl-C does."""
        self.start()
        try:
            self.wait_until_serving()
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        """Start the launcher; returns at once."""
        ours = {name.upper() for group in GROUPS for name in group.model_fields}
        surroundings = {name: value for name, value in os.environ.items() if name.upper() not in ours}
        environment = {
            **surroundings,
            **EMBEDDED,
            **{name: str(port) for name, port in self.ports.items()},
            "ENV_FILE": str(self.folder / "no.env"),
            "DATA_DIR": str(self.folder / "data"),
            "PYTHONUNBUFFERED": "1",
            MARK: self.mark,
            **self.environment,
        }
        command = [sys.executable, str(ROOT / "launcher.py"), "--combined-logs"]
        if self.services:
            command += ["--services", *self.services]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            # A session of its own: Ctrl-C in the terminal that runs the tests is not meant for it.
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_serving(self) -> None:
        """Return once every part that was asked for is healthy.

        Raises:
            AssertionError: It ended, or didn't get there in time; with the end of its log.
        """
        waiting = dict(self._health_pages())
        deadline = time.monotonic() + self.patience
        last: dict[str, str] = {}
        while waiting:
            for part, address in list(waiting.items()):
                status, body = answer(address, trust=self.trust, key=self.key)
                if status == 200:
                    del waiting[part]
                else:
                    last[part] = f"{status} {body}"
            if self._process is None or self._process.poll() is not None:
                raise AssertionError(f"the launcher ended by itself\n{self.tail()}")
            if time.monotonic() > deadline:
                reasons = {part: last[part] for part in waiting}
                raise AssertionError(f"not healthy after {self.patience:.0f} s: {reasons}\n{self.tail()}")
            time.sleep(0.2)

    def stop(self, patience: float = 30.0) -> int:
        """Interrupt the launcher by its process id and wait for it; returns its exit status. May be called again.

        Raises:
            AssertionError: It didn't end, or left a process behind (which is then killed).
        """
        process = self._process
        assert process is not None, "the stack was not started"
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        ended = True
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            ended = False
        left = self.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(10)
        if not ended:
            raise AssertionError(f"the launcher didn't end within {patience:.0f} s\n{self.tail()}")
        if left:
            raise AssertionError(f"the launcher left processes behind: {list(left.values())}\n{self.tail()}")
        return process.returncode

    def processes(self) -> dict[int, str]:
        """Process id and command line of everything that is alive of this run, the launcher included."""
        alive: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    alive[int(entry.name)] = command
        return alive

    def tail(self, lines: int = 60) -> str:
        """The end of the log, without livekit-server's line for each of the dispatch watch's questions."""
        written = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        written = [line for line in written if "API RoomService.List" not in line]
        return "\n".join([f"--- end of {self.log} ---", *written[-lines:]])

    def _health_pages(self) -> Iterator[tuple[str, str]]:
        parts = {"server": "COMPAT_PORT", "stt": "STT_PORT", "chat": "CHAT_PORT", "tts": "TTS_PORT"}
        for part, port in parts.items():
            if not self.services or part in self.services:
                secure = self._secure if part == "server" else ""
                yield part, f"http{secure}://127.0.0.1:{self.ports[port]}/health"
        if not self.services:
            yield "page", f"{self.page}/health"
            yield "everything", f"{self.page}/api/health"


def answer(address: str, timeout: float = 10.0, trust: ssl.SSLContext | None = None, key: str = "") -> tuple[int, Any]:
    """Status and JSON of an HTTP GET; status 0 where nobody answers."""
    request = urllib.request.Request(address, headers=authorization(key))
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=trust) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(error)


def authorization(key: str) -> dict[str, str]:
    """The header that shows a key, where there is one."""
    return {"Authorization": f"Bearer {key}"} if key else {}
