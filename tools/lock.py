"""Write the hashed requirement files: `make lock` keeps pins that still fit, `make lock UPGRADE=1` takes the newest.

One file per set: `base` (what `make run` installs), `dev` (base and what the tests need), one per extra of
pyproject.toml, and the installers' own (`uv`, `node`, `go`). Extras are held to the versions of `base`, so that any of
them can be added to it. No address of a package registry is written.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("dev", "local", "postgres")
INSTALLERS = ("uv", "node", "go")
OPTIONS = (
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-annotate",
    "--no-emit-index-url",
    "--no-config",
    "--custom-compile-command=make lock",
    "--quiet",
)


def compile_set(name: str, source: str, *more: str) -> None:
    """Resolve `source` for every platform and write `requirements/NAME.txt`."""
    written = f"requirements/{name}.txt"
    upgrade = ["--upgrade"] if os.environ.get("UPGRADE") else []
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "compile", source, *more, *OPTIONS, *upgrade, "--output-file", written]
    # Addresses of this machine's own (mirrors, folders of wheels) must not decide what everybody installs.
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UV_", "PIP_"))}
    subprocess.run(command, cwd=ROOT, env=clean, check=True)
    print(f"  {written}")


def main() -> None:
    """Write every set, `base` first since the others are held to it."""
    compile_set("base", "pyproject.toml")
    for extra in EXTRAS:
        compile_set(extra, "pyproject.toml", f"--extra={extra}", "--constraints=requirements/base.txt")
    for installer in INSTALLERS:
        compile_set(installer, f"requirements/{installer}.in")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        sys.exit(failed.returncode)
