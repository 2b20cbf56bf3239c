"""What the doctor says of the machine: Python, GPU, memory, disk, clock."""

from __future__ import annotations

import datetime
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from launching import disk
from launching.finding import Finding, fail, ok, warn

WANTED_MEMORY = 2 * 1024**3
"""Bytes that all parts take with the embedded engines and some conversations."""

WANTED_DISK = 1024**3
DRIVER = Path("/proc/driver/nvidia/version")
NO_GPU = "GPU: none found; the engines of this version need none"


def python() -> Iterator[Finding]:
    """Which Python this is."""
    yield ok(f"Python {'.'.join(map(str, sys.version_info[:3]))}, {sys.prefix}")


def gpu() -> Iterator[Finding]:
    """Which GPU is there."""
    program = shutil.which("nvidia-smi")
    if program is None:
        yield warn("GPU: a driver is loaded, nvidia-smi isn't installed") if DRIVER.exists() else ok(NO_GPU)
        return
    try:
        said = subprocess.run(
            [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield warn(f"GPU: nvidia-smi doesn't answer ({type(error).__name__}); without a GPU everything runs on the CPU")
        return
    if said.returncode:
        reason = (said.stdout + said.stderr).strip().splitlines()
        yield warn(f"GPU: nvidia-smi says: {reason[0] if reason else said.returncode}")
    else:
        yield ok(f"GPU: {'; '.join(said.stdout.strip().splitlines()) or 'none listed'}")


def memory() -> Iterator[Finding]:
    """Whether there is memory enough."""
    found = psutil.virtual_memory()
    line = f"memory: {disk.megabytes(found.available)} of {disk.megabytes(found.total)} available"
    if found.total < WANTED_MEMORY:
        yield warn(f"{line}; {disk.megabytes(WANTED_MEMORY)} are wanted: fewer parts (--services) need less")
    else:
        yield ok(line)


def folder(data: Path) -> Iterator[Finding]:
    """Whether things can be kept, and for how long."""
    if trouble := disk.unwritable(data):
        yield fail(trouble)
        return
    left = disk.free(data)
    line = f"data folder {data.absolute()}: {disk.megabytes(left)} free"
    if left < disk.LITTLE:
        yield fail(f"{line}; what people say can't be kept. Make room, or set DATA_DIR")
    else:
        yield ok(line) if left >= WANTED_DISK else warn(f"{line}; it will be full some day soon")


def clock() -> Iterator[Finding]:
    """Whether the clock can be right: tokens are signed with its time, and certificates judged by it."""
    now = time.time()
    newest = Path(__file__).stat().st_mtime
    said = datetime.datetime.fromtimestamp(now).astimezone().strftime("%Y-%m-%d %H:%M %Z")
    if now < newest - 60:
        yield fail(f"clock: {said} is before this program was put here. Set the clock (timedatectl set-ntp true)")
    else:
        yield ok(f"clock: {said}")
