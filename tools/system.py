"""Programs of the system: asked for by name, installed with apt where root or sudo is there, else named in one line."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from steps import StepFailed, run

FOR_TESTS = ("chromium", "flite", "sox", "ffmpeg", "postgresql", "libatomic1")
"""Debian packages of the tests (the last one for Playwright's Node); TEST_APT names others instead."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Commands under which Chromium is found; any one of them serves the tests."""


def missing_packages(packages: Sequence[str]) -> list[str]:
    """Those Debian packages whose program is not on this machine (most packages' program bears their name)."""
    return [name for name in packages if not _is_there(name)]


def _is_there(package: str) -> bool:
    if package == "libatomic1":  # a library, not a program
        try:
            ctypes.CDLL("libatomic.so.1")
        except OSError:
            return False
        return True
    if package == "postgresql":  # Debian keeps the server's programs off the PATH
        return any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or shutil.which("initdb") is not None
    return any(map(shutil.which, BROWSERS if package == "chromium" else (package,)))


def install_packages(packages: Sequence[str]) -> None:
    """Install Debian packages.

    Raises:
        StepFailed: Neither root nor sudo is there, or there is no apt; the message is the line to type.
    """
    line = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise StepFailed(f"these are missing: {' '.join(packages)}. Install them with this system's package manager.")
    root = _root()
    if root is None:
        raise StepFailed(f"packages of the system are missing. As root, type:\n\n      {line}\n")
    fix = f"Is there a network, and are the sources in /etc/apt right? As root by hand: apt-get update; {line}"
    run("apt-update", [*root, "apt-get", "update"], fix=fix)
    run("apt-install", [*root, "env", "DEBIAN_FRONTEND=noninteractive", *line.split()], fix=fix)


def _root() -> list[str] | None:
    """Words that make a command root's: none as root, sudo where it asks no password or can ask a person."""
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    if subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0:
        return ["sudo"]
    if sys.stdin.isatty() and subprocess.run(["sudo", "-v"], check=False).returncode == 0:
        return ["sudo"]
    return None


def has_gpu() -> bool:
    """Whether an NVIDIA card is there."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
