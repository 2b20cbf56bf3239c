"""A real agent worker for tests: `python agent/main.py start` on free ports, with a data folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from livekit import api

from tests.e2e.stack import UNHURRIED
from tests.livekit_server import ROOT, LiveKitServer, free_port

STARTS_WITHIN = 90.0

EMBEDDED = {"STT": "pocketsphinx", "CHAT": "companion", "TTS": "espeak", "POCKETSPHINX_PROCESSES": "1"} | UNHURRIED
"""What answers in these tests, whatever else the machine has."""


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """A worker that is ready for rooms."""

    process: subprocess.Popen[bytes]
    port: int
    environment: dict[str, str]
    log: Path

    def health(self) -> dict[str, Any]:
        """What its health page says, `status_code` included."""
        return health(self.port)

    def metrics(self) -> str:
        """What its metrics page says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def written(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGINT, within: float = 30.0) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(within)


def health(port: int) -> dict[str, Any]:
    """What the health page on a port says; `status_code` 0 while nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return {"status_code": answer.status, **json.load(answer)}
    except urllib.error.HTTPError as error:
        return {"status_code": error.code, **json.load(error)}
    except OSError:
        return {"status_code": 0}


@contextlib.contextmanager
def running_agent(server: LiveKitServer, folder: Path, *arguments: str, **variables: str) -> Iterator[AgentProcess]:
    """Run a worker until the block is left.

    Args:
        server: Where it registers.
        folder: For its data and log.
        arguments: Further arguments of `start`.
        variables: Further environment variables.
    """
    port = free_port()
    environment = os.environ | server.environment | EMBEDDED
    environment |= {"AGENT_PORT": str(port), "DATA_DIR": str(folder / "data")} | variables
    log = folder / "agent.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "agent" / "main.py"), "start", "--log-level", "debug", *arguments],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    agent = AgentProcess(process, port, environment, log)
    try:
        _wait_until_ready(agent)
        yield agent
    finally:
        try:
            agent.stop()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(agent: AgentProcess) -> None:
    end = time.monotonic() + STARTS_WITHIN
    while agent.health()["status_code"] != 200:
        if agent.process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the agent doesn't start:\n{agent.written()}")
        time.sleep(0.1)


@contextlib.contextmanager
def token_page(server: LiveKitServer) -> Iterator[str]:
    """The token endpoint alone, as clients need it; gives its address."""

    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            token = (
                api.AccessToken(server.key, server.secret)
                .with_identity(wanted["participant_identity"])
                .with_attributes(wanted["participant_attributes"])
                .with_grants(api.VideoGrants(room_join=True, room=wanted["room_name"]))
            )
            body = json.dumps({"server_url": server.url, "participant_token": token.to_jwt()}).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    page = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{page.server_address[1]}"
    finally:
        page.shutdown()
        page.server_close()
