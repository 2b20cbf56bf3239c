"""Starts and supervises every part of Voice Node: `python launcher.py --help`."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def use_own_python() -> None:
    """Go on in the project's own environment where the packages we need are not in this one."""
    if importlib.util.find_spec("pydantic_settings") and importlib.util.find_spec("numpy"):
        return
    own = ROOT / ".venv" / "bin" / "python"
    if not own.exists() or Path(sys.prefix) == ROOT / ".venv":
        sys.exit("launcher: the project's packages are not installed; type 'make setup', or 'make run' for everything")
    os.execv(own, [str(own), str(Path(__file__).resolve()), *sys.argv[1:]])


def main() -> int:
    """Run the launcher; its exit status."""
    use_own_python()
    from launching.command import main as launch

    return launch()


if __name__ == "__main__":
    sys.exit(main())
