"""Programs of the system: asked for by name, installed with apt where root or sudo is there, else named in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from steps import StepFailed, run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Commands under which Chromium is found; any one of them serves the tests."""


def missing_packages(packages: Sequence[str]) -> list[str]:
    """Those Debian packages whose program is not on this machine (most packages' program bears their name)."""
    return [name for name in packages if not _is_there(name)]


def _is_there(package: str) -> bool:
    if package == "postgresql":  # Debian keeps the server's programs off the PATH
        return any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or shutil.which("initdb") is not None
    return any(map(shutil.which, BROWSERS if package == "chromium" else (package,)))


def install_packages(packages: Sequence[str], purpose: str) -> str:
    """Install Debian packages.

    Args:
        packages: Their names.
        purpose: What needs them, for the message.

    Raises:
        StepFailed: Neither root nor sudo is there, or there is no apt; the message is the line to type.
    """
    line = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise StepFailed(f"{purpose} needs: {' '.join(packages)}. Install them with this system's package manager.")
    root = _root()
    if root is None:
        raise StepFailed(f"{purpose} needs packages of the system. As root, type:\n\n      {line}\n")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    update = [*root, "apt-get", "update"]
    install = [*root, "env", "DEBIAN_FRONTEND=noninteractive", *line.split()]
    run("apt-update", update, env=quiet, fix="Is there a network, and are the sources in /etc/apt right?")
    run("apt-install", install, env=quiet, fix=f"As root, type: {line}")
    return " ".join(packages)


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
