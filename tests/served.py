"""Our HTTP parts on free ports, for tests: an app inside the test's own loop, or a service as a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI

from services.server import bind, make_server
from settings import GROUPS

STARTED_WITHIN = 60.0


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serve an app inside this loop; gives its HTTP address."""
    sock = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{sock.getsockname()[1]}"
    server = make_server(app)
    server.handle_exit = lambda sig, frame: None  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
            if task.done():
                task.result()
                raise RuntimeError("the app didn't start")
        yield address
    finally:
        server.should_exit = True
        await task


async def until_healthy(address: str) -> None:
    """Wait until the part can serve."""
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(1000):
            if (await client.get(f"{address}/health")).status_code == 200:
                return
            await asyncio.sleep(0.02)
        raise RuntimeError("the part doesn't become healthy")


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without any of the project's variables, and with the given ones."""
    ours = {name.upper() for group in GROUPS for name in group.model_fields}
    return {name: value for name, value in os.environ.items() if name.upper() not in ours} | variables


class ServiceProcess:
    """A running `python -m services ...`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.url = ""

    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace")

    def wait_until_healthy(self) -> None:
        """Wait for the address in its log, then for its health."""
        deadline = time.monotonic() + STARTED_WITHIN
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the service ended with {self.process.returncode}:\n{self.text()}")
            if not self.url and "url='" in self.text():
                self.url = self.text().split("url='", 1)[1].split("'", 1)[0]
            if self.url and self._healthy():
                return
            time.sleep(0.05)
        raise RuntimeError(f"the service isn't ready:\n{self.text()}")

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=20)


@contextmanager
def running_service(kind: str, folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[ServiceProcess]:
    """A service on a free port with its data in `folder`, ready to serve."""
    with running_part("services", folder, variables, kind) as running:
        yield running


@contextmanager
def running_part(
    module: str, folder: Path, variables: Mapping[str, str] | None = None, *arguments: str
) -> Iterator[ServiceProcess]:
    """A part of ours, `python -m MODULE`, on a free port with its data in `folder`, ready to serve."""
    log = folder / f"{'-'.join((module, *arguments))}-{time.monotonic_ns()}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments, "--port", "0"],
            env=clean_environment(DATA_DIR=str(folder / "data"), **(variables or {})),
            cwd=folder,
            stdout=out,
            stderr=out,
        )
    running = ServiceProcess(process, log)
    try:
        running.wait_until_healthy()
        yield running
    finally:
        if process.poll() is None:
            running.stop()
