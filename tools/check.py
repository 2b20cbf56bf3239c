"""All that `make test` checks: style, types, import rules, generated files, the page; then the tests, summary last.

Arguments go to pytest; the other checks run all the same. Every check is run, so that one run names all that fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time

from audit import AuditError, audit
from page import node
from steps import ROOT, VENV, StepFailed, run, say, together

PYTHON = VENV / "bin" / "python"
FOLDERS = ("tests/unit", "tests/integration", "tests/e2e")
"""Fast ones first: what is wrong at the bottom shows before the whole stack is started."""


class Checks:
    """Checks that have run, and those that failed."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self._lock = threading.Lock()

    def check(self, title: str, *command: str, cwd: str = ".", env: dict[str, str] | None = None) -> None:
        """Run one check and say how it went; a failure is remembered."""
        begun = time.monotonic()
        try:
            run(f"check-{re.sub('[^a-z]+', '-', title).strip('-')}", command, cwd=ROOT / cwd, env=env)
        except StepFailed as failure:
            with self._lock:
                self.failed.append(title)
            say(f"  FAIL {title} ({time.monotonic() - begun:.1f} s)\n{failure}")
        else:
            say(f"  ok   {title} ({time.monotonic() - begun:.1f} s)")

    def audit(self) -> None:
        """Ask what is known against the packages that are pinned; where nobody knows, say so."""
        try:
            wrong, away = audit()
        except AuditError as error:
            wrong, away = [str(error)], []
        said = "".join(f"\n       {line}" for line in (*wrong, *away))
        if wrong:
            with self._lock:
                self.failed.append("dependency audit")
        say(f"  {'FAIL' if wrong else 'ok  '} dependency audit (make audit){said}")


def main(arguments: list[str]) -> int:
    """Run every check; 0 where all of them passed."""
    checks = Checks()
    bin_folder = VENV / "bin"
    print("Checking", flush=True)

    def style() -> None:
        checks.check("style (ruff check)", str(bin_folder / "ruff"), "check", ".")
        checks.check("format (ruff format)", str(bin_folder / "ruff"), "format", "--check", ".")
        checks.check("import rules (lint-imports)", str(bin_folder / "lint-imports"))
        checks.check("generated files", str(PYTHON), "tools/generated.py")
        checks.check("page (npm run check)", "npm", "run", "check", cwd="web", env=node())

    def types() -> None:
        checks.check("types (mypy)", str(bin_folder / "mypy"))
        tools = sorted(map(str, (ROOT / "tools").glob("*.py")))
        checks.check("types of tools (mypy)", str(bin_folder / "mypy"), *tools)

    together(style, types, checks.audit)
    if checks.failed:
        say(f"  These checks FAILED, so this run will: {', '.join(checks.failed)}")
    say("Testing")
    which = arguments if any(os.path.exists(word) for word in arguments) else [*FOLDERS, *arguments]  # noqa: PTH110
    tests = subprocess.run([PYTHON, "-m", "pytest", *which], cwd=ROOT, check=False)
    return tests.returncode or bool(checks.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
