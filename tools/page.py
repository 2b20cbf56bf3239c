"""The page, built from `web/` with the machine's Node or one from PyPI; again only when its sources have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from python_env import PYTHON, UV, uv_install
from steps import ROOT, TOOLS, fingerprint, is_done, mark_done, run, step

OLDEST_NODE = (22, 22)
"""What the page's packages ask for (engines in web/package.json)."""

WEB = ROOT / "web"
BUILT = WEB / "dist"
OWN = TOOLS / "node"
"""An environment of its own, so that Node is not removed or upgraded with the project's packages."""


def build() -> None:
    """Have `web/dist` as the sources in `web/` make it."""
    inputs = fingerprint(_sources())
    if is_done("page", inputs) and (BUILT / "index.html").is_file():
        return
    env = node()
    packages = fingerprint([WEB / "package.json", WEB / "package-lock.json"])
    if not (is_done("page-packages", packages) and (WEB / "node_modules").is_dir()):
        install = ["npm", "ci", "--no-audit", "--no-fund"]
        step(
            "page's packages (npm ci)",
            lambda: run("npm-ci", install, cwd=WEB, env=env, fix="Does npm reach its registry?"),
        )
        mark_done("page-packages", packages)
    step("page (npm run build)", lambda: run("npm-build", ["npm", "run", "build"], cwd=WEB, env=env))
    mark_done("page", inputs)


def node() -> dict[str, str]:
    """Variables with which `npm` and `node` are found, Node being installed first where the machine's is too old."""
    if _node_version() >= OLDEST_NODE and shutil.which("npm"):
        return {}
    requirements = ROOT / "requirements" / "node.txt"
    inputs = fingerprint([requirements])
    if not (is_done("node", inputs) and (OWN / "bin" / "npm").exists()):
        step("Node (from PyPI)", lambda: _install(requirements))
        mark_done("node", inputs)
    # A closed network's own certificates are the system's, not those that Node carries.
    return {"PATH": f"{OWN / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}", "NODE_USE_SYSTEM_CA": "1"}


def _install(requirements: Path) -> None:
    run("node-env", [UV, "venv", "--clear", "--python", PYTHON, OWN])
    uv_install("node", requirements, OWN / "bin" / "python")


def _node_version() -> tuple[int, ...]:
    program = shutil.which("node")
    if program is None:
        return (0,)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    numbers = said.strip().removeprefix("v").split(".")[:2]
    return tuple(map(int, numbers)) if all(map(str.isdigit, numbers)) else (0,)


def _sources() -> list[Path]:
    found: list[Path] = []
    for folder, folders, files in os.walk(WEB):
        folders[:] = [
            name for name in folders if name not in ("node_modules", "dist", "test-results") and name[0] != "."
        ]
        found += [Path(folder) / name for name in files]
    return found
