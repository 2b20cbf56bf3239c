"""Who holds a port: another program, another Voice Node, or this one, running."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from launching.parts import ROOT, Port

OURS = ("livekit-server", "services", "compat_ws", "token_server", "agent/main.py")
"""One of these stands in the command line of every part of ours."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port."""

    pid: int
    command: str
    ours: bool
    """Whether it is a part of this very Voice Node."""

    def __str__(self) -> str:
        return f"{self.command}, process {self.pid}"


def holder(port: Port) -> Holder | None:
    """Who listens on a port; None where nobody does or the system doesn't say."""
    try:
        lines = psutil.net_connections("udp" if port.protocol == "udp" else "tcp")
    except (psutil.Error, OSError):
        return None
    for line in lines:
        listens = line.status == psutil.CONN_LISTEN or (port.protocol == "udp" and not line.raddr)
        if listens and line.laddr and line.laddr.port == port.number and line.pid:
            return _named(line.pid)
    return None


def _named(pid: int) -> Holder | None:
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        ours = process.cwd() == str(ROOT) and any(one in " ".join(words) for one in OURS)
        return Holder(pid, " ".join(words)[:80] or process.name(), ours)
    except (psutil.Error, OSError):
        return None
