"""What a benchmark measures on: the machine, and a stack of its own or one that runs."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.stack import Stack

OUT = Path(__file__).resolve().parent / "out"
"""Where figures are written to where no file is named."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where to talk.

    Attributes:
        page: Address of the page, `http://host:port`.
        websocket: Address of the WebSocket, `ws://host:port`.
        stack: The benchmark's own stack; None where one that runs is measured.
    """

    page: str
    websocket: str
    stack: Stack | None = None


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


@contextlib.contextmanager
def serving(url: str | None, websocket_url: str | None, environment: dict[str, str] | None = None) -> Iterator[Ground]:
    """Addresses of page and WebSocket: those given, else of a stack that runs meanwhile.

    Args:
        url: Address of a running stack's page.
        websocket_url: Address of its WebSocket; port 8000 of the page's host where None.
        environment: Settings of a stack of its own.
    """
    if url or websocket_url:
        page = (url or "http://localhost:8080").rstrip("/")
        yield Ground(page, (websocket_url or f"ws://{urlsplit(page).hostname}:8000").rstrip("/"))
        return
    with tempfile.TemporaryDirectory(prefix="voice-node-bench-") as folder:
        print("starting a stack of its own ...", flush=True)
        stack = Stack(Path(folder), Path(folder) / "stack.log", environment=environment or {})
        with stack.running():
            yield Ground(stack.page, stack.compat, stack)
