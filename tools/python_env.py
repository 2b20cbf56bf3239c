"""The project's own Python environment, `.venv`: made, filled from the hashed requirement files, the project in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from steps import ROOT, VENV, StepFailed, fingerprint, is_done, mark_done, run, step
from system import has_gpu

PREBUILT = ("3.11", "3.13")
"""Python versions for which every package comes ready built; with others PocketSphinx is compiled here."""

HAS_HEADERS = "import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path('include') + '/Python.h'))"
"""What a Python says of the headers that compiling for it needs."""

UV = VENV / "bin" / "uv"
PYTHON = VENV / "bin" / "python"
INSTALLER = ROOT / "requirements" / "uv.txt"
"""uv and the build backend; part of every set's inputs, since a set may want an older setuptools than it brings."""

EXTRAS = tuple(
    sorted(
        path.stem
        for path in (ROOT / "requirements").glob("*.txt")
        if path.stem not in ("base", "dev", "uv", "node", "go")
    )
)
"""Extras that can be asked for by name."""


def extras_wanted(asked: Sequence[str]) -> list[str]:
    """The extras to install: those asked for, and `local` by itself where a GPU is there (unless `none` was asked).

    Raises:
        StepFailed: There is no extra of that name.
    """
    unknown = [name for name in asked if name not in (*EXTRAS, "none")]
    if unknown:
        raise StepFailed(f"there is no extra {unknown[0]!r}: EXTRAS takes {', '.join(EXTRAS)} or none")
    found = ["local"] if has_gpu() and "none" not in asked else []
    return sorted({*asked, *found} - {"none"})


def prepare() -> None:
    """Have the environment and the installer in it."""
    if not _works(PYTHON):
        step("Python environment (.venv)", _make_environment)
    inputs = fingerprint([INSTALLER], str(VENV))
    if not (UV.exists() and is_done("uv", inputs)):
        step("installer (uv)", _install_installer)
        mark_done("uv", inputs)


def install(sets: Sequence[str]) -> None:
    """Make `.venv` hold the requirement sets named (`base`, `dev`, extras) and the project itself."""
    for name in sets:
        _install_set(name)
    inputs = fingerprint([ROOT / "pyproject.toml"], str(VENV))
    if not is_done("project", inputs):
        step("the project itself", _install_project)
        mark_done("project", inputs)


def _works(python: Path) -> bool:
    """Whether the environment is there and its Python still runs (the system's may have been upgraded away)."""
    if not python.exists():
        return False
    return _does(python, "import pip")


def system_packages() -> list[str]:
    """Debian packages without which the environment can't be made: Python's venv module, and maybe a compiler."""
    if _works(PYTHON):
        return []
    python = _best_python()
    packages = []
    if not _does(python, "import ensurepip, venv"):
        packages.append(f"python{_version(python)}-venv")
    if _version(python) not in PREBUILT and not (shutil.which("g++") and _does(python, HAS_HEADERS)):
        packages += ["build-essential", f"python{_version(python)}-dev"]
    return packages


def _make_environment() -> str:
    fix = "See the message above; PYTHON=... chooses another Python."
    run("venv", [_best_python(), "-m", "venv", "--clear", VENV], fix=fix)
    shutil.rmtree(ROOT / ".tools" / "stamps", ignore_errors=True)  # whatever was installed is gone
    return f"Python {_version(PYTHON)}"


def _best_python() -> str:
    """This Python, or one beside it that needs no compiler."""
    names = (sys.executable, *(f"python{version}" for version in PREBUILT))
    found = [path for name in names if (path := shutil.which(name)) and _does(path, "")]
    return next((path for path in found if _version(path) in PREBUILT), sys.executable)


def _does(python: str | Path, code: str) -> bool:
    """Whether a Python runs this code to its end."""
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def _version(python: str | Path) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _install_installer() -> None:
    options = ["--disable-pip-version-check", "--no-input", "--require-hashes"]
    fix = "Is there a network, and does pip reach its package index?"
    run("uv", [PYTHON, "-m", "pip", "install", *options, "-r", INSTALLER], fix=fix)


def _install_set(name: str) -> None:
    """Add one set to the environment; what is there already at the right version costs nothing."""
    requirements = ROOT / "requirements" / f"{name}.txt"
    inputs = fingerprint([requirements, INSTALLER], str(VENV))
    covers = fingerprint([ROOT / "requirements" / "dev.txt", INSTALLER], str(VENV))
    if is_done(f"python-{name}", inputs) or (name == "base" and is_done("python-dev", covers)):
        return
    step(f"Python packages ({name})", lambda: uv_install(f"python-{name}", requirements, PYTHON))
    mark_done(f"python-{name}", inputs)


def uv_install(log: str, requirements: Path, python: Path) -> None:
    """Install a hashed requirement file into the environment of `python`."""
    options: list[str | Path] = ["--python", python, "--require-hashes", "--compile-bytecode"]
    fix = "Is there a network, and does uv reach its package index (UV_DEFAULT_INDEX names another one)?"
    run(log, [UV, "pip", "install", *options, "-r", requirements], env={"UV_SYSTEM_CERTS": "1"}, fix=fix)


def _install_project() -> None:
    options: list[str | Path] = ["--python", PYTHON, "--no-deps", "--no-build-isolation"]
    run("project", [UV, "pip", "install", *options, "--editable", ROOT])
