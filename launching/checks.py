"""What has to be true before anything starts (free ports), and the doctor behind `--check`."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launching.parts import ROOT, Part, Port, livekit_server
from settings import Settings
from settings.livekit_keys import KeysError, keys_path, livekit_keys

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LITTLE_SPACE = 1024**3
"""Bytes of free disk below which a warning is due: logs, database and voices grow."""


def ports_in_use(parts: Sequence[Part]) -> str | None:
    """One line that names every port we can't have and the variable that moves ours elsewhere; None if all are free."""
    taken = [
        f"{port.number} ({part.name}, {port.variable})" for part in parts for port in part.ports if why_taken(port)
    ]
    if not taken:
        return None
    reason = next(filter(None, (why_taken(port) for part in parts for port in part.ports)), "in use")
    many = "ports" if len(taken) > 1 else "port"
    return (
        f"{many} {', '.join(taken)}: {reason}. Stop what uses them (another Voice Node?), or set the variables named."
    )


def why_taken(port: Port) -> str | None:
    """Why a port can't be listened on; None if it can."""
    udp = port.protocol == "udp"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            port.host, port.number, type=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            if not udp:  # as servers do: connections that have just ended are no hindrance
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            if not udp:
                probe.listen(1)
    except socket.gaierror:
        return f"HOST={port.host} is not an address"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "in use"
        if error.errno == errno.EADDRNOTAVAIL:
            return f"HOST={port.host} is not an address of this machine"
        return os.strerror(error.errno or 0)
    return None


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's."""

    state: Literal["ok", "warn", "FAIL"]
    text: str


def doctor(settings: Settings, parts: Sequence[Part]) -> Iterator[Finding]:
    """Look at everything a start depends on."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        lambda: _livekit(settings, parts),
        lambda: _keys(settings),
        lambda: _folder(settings.storage.data_dir),
        lambda: _page(parts),
        lambda: _openness(settings),
        lambda: _ports(parts),
    )
    for check in checks:
        yield from check()


def _python() -> Iterator[Finding]:
    yield Finding("ok", f"Python {'.'.join(map(str, sys.version_info[:3]))}, {sys.prefix}")


def _livekit(settings: Settings, parts: Sequence[Part]) -> Iterator[Finding]:
    if settings.livekit.livekit_url:
        yield Finding("ok", f"livekit-server: your own, {settings.livekit.livekit_url}")
        return
    program = livekit_server()
    if program is None:
        needed = any(part.name == "livekit" for part in parts)
        yield Finding(
            "FAIL" if needed else "warn", "livekit-server: not on PATH or in .tools/bin; 'make setup' gets it"
        )
        return
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    yield Finding("ok" if said.returncode == 0 else "FAIL", f"{said.stdout.strip() or 'does not start'}, {program}")


def _keys(settings: Settings) -> Iterator[Finding]:
    path = keys_path(settings)
    given = settings.livekit.livekit_api_key or settings.livekit.livekit_api_secret or settings.livekit.livekit_url
    if not given and not path.exists():
        yield Finding("ok", f"LiveKit key and secret: will be made at the first start, {path}")
        return
    if not given and path.stat().st_mode & 0o077:
        yield Finding("warn", f"LiveKit key and secret: others can read {path}; the next start closes it")
        return
    try:
        livekit_keys(settings)
    except KeysError as error:
        yield Finding("FAIL", f"LiveKit key and secret: {error}")
    else:
        yield Finding("ok", f"LiveKit key and secret: {'set' if given else f'{path}, for the owner only'}")


def _folder(folder: Path) -> Iterator[Finding]:
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("FAIL", f"data folder {folder.absolute()}: can't be written; set DATA_DIR")
        return
    free = shutil.disk_usage(there).free
    state: Literal["ok", "warn"] = "ok" if free >= LITTLE_SPACE else "warn"
    yield Finding(state, f"data folder {folder.absolute()}: {free / 1024**3:.1f} GiB free")


def _page(parts: Sequence[Part]) -> Iterator[Finding]:
    if any(part.name == "page" for part in parts):
        if (ROOT / "web" / "dist" / "index.html").is_file():
            yield Finding("ok", "page: built")
        else:
            yield Finding("FAIL", "page: web/dist is missing; 'make setup' builds it")


def _openness(settings: Settings) -> Iterator[Finding]:
    warning = open_to_others(settings)
    if warning:
        yield Finding("warn", warning)


def open_to_others(settings: Settings) -> str | None:
    """The warning that is due where others can reach us without a key."""
    if settings.network.host in LOOPBACK or settings.network.api_keys:
        return None
    return f"HOST={settings.network.host} and no API_KEYS: everyone who reaches this machine can use it. Set API_KEYS."


def _ports(parts: Sequence[Part]) -> Iterator[Finding]:
    line = ports_in_use(parts)
    yield Finding("FAIL", line) if line else Finding("ok", "ports: all free")
