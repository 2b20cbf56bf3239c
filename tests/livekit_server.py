"""A real livekit-server for tests: own keys, free ports, loopback only, ended by its own process id.

    with running_livekit_server() as server:
        server.url, server.key, server.secret

`server.environment` is what a part of ours needs in its environment to talk to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class LiveKitServer:
    """A livekit-server that answers."""

    port: int
    tcp_port: int
    udp_port: int
    key: str
    secret: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Its WebSocket address, for clients and workers."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that point a part of ours at this server."""
        return {"LIVEKIT_URL": self.url, "LIVEKIT_API_KEY": self.key, "LIVEKIT_API_SECRET": self.secret}

    def written(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End it; it is waited for. May be called again."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def livekit_server_path() -> Path:
    """The program: on PATH, else in the project's tool folder, where `make test` puts it.

    Raises:
        FileNotFoundError: It is in neither place.
    """
    found = shutil.which("livekit-server") or shutil.which(ROOT / ".tools" / "bin" / "livekit-server")
    if not found:
        raise FileNotFoundError("livekit-server is neither on PATH nor in .tools/bin: 'make test' fetches it")
    return Path(found)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port on 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running_livekit_server(
    *,
    port: int | None = None,
    key: str | None = None,
    secret: str | None = None,
    level: str = "info",
    announced: str | None = None,
) -> Iterator[LiveKitServer]:
    """Run a livekit-server until the block is left.

    Args:
        port: Signalling port, to start one where an earlier one was; a free one where None.
        key: Its key; a new one where None.
        secret: Its secret; a new one where None.
        level: What it logs (debug, info, warn, error).
        announced: A loopback address that clients are told to send media to, at the server's UDP port. A relay of the
            test's listens there: the server itself is on 127.0.0.1 and tries no way to them of its own.
    """
    key = key or "API" + secrets.token_hex(6)
    secret = secret or secrets.token_hex(24)
    with tempfile.TemporaryDirectory(prefix="livekit-server-") as folder:
        server = _start(Path(folder), port, key, secret, level, announced)
        try:
            yield server
        finally:
            server.stop()


def _start(folder: Path, wanted: int | None, key: str, secret: str, level: str, announced: str | None) -> LiveKitServer:
    log = folder / "livekit-server.log"
    for _ in range(4):  # another program may take a port between our looking and the server's listening
        port, tcp_port, udp_port = wanted or free_port(), free_port(), free_port(socket.SOCK_DGRAM)
        # Through the environment, so that the secret stands in no process list. It reads more LIVEKIT_ variables, which
        # may be another server's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LIVEKIT_")}
        environment["LIVEKIT_CONFIG"] = _config(port, tcp_port, udp_port, key, secret, level, announced)
        with log.open("wb") as output:
            process = _spawn(environment, output)
        server = LiveKitServer(port, tcp_port, udp_port, key, secret, process, log)
        if _answers(server, within=20):
            return server
        server.stop()
    raise RuntimeError(f"livekit-server doesn't start:\n{log.read_text(errors='replace')}")


def _config(port: int, tcp_port: int, udp_port: int, key: str, secret: str, level: str, announced: str | None) -> str:
    behind_relay = {"node_ip": announced, "ips": {"includes": ["127.0.0.1/32"]}, "use_ice_lite": True, "tcp_port": 0}
    return json.dumps(  # JSON is YAML
        {
            "port": port,
            "bind_addresses": ["127.0.0.1"],
            "keys": {key: secret},
            "logging": {"level": level, "json": False},
            "rtc": {
                "tcp_port": tcp_port,
                "udp_port": udp_port,
                "use_external_ip": False,
                "node_ip": "127.0.0.1",
                "enable_loopback_candidate": True,
                "interfaces": {"includes": ["lo"]},
                "stun_servers": ["127.0.0.1:9"],  # none given means Google's
                **(behind_relay if announced else {}),
            },
        }
    )


def _spawn(environment: dict[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [livekit_server_path()],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        preexec_fn=_end_with_parent,
    )


def _end_with_parent() -> None:
    """Let the server end with the thread that started it, also when that is killed."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _answers(server: LiveKitServer, within: float) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end and server.process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=1)
        try:
            connection.request("GET", "/")
            if connection.getresponse().status == 200 and server.process.poll() is None:
                return True
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    return False
