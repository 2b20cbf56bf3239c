"""One step of the setup: said in a line with its time, skipped when its inputs are unchanged, explained when it fails.

The standard library alone, as everything here runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"
STAMPS = TOOLS / "stamps"
LOGS = TOOLS / "logs"
SHOWN_LINES = 30
"""Lines of a failed command's output that are shown; the whole of it is in the log file."""

_printing = threading.Lock()
_running: set[subprocess.Popen[bytes]] = set()
"""Commands that run at this moment, to be ended when a step beside them fails."""


class StepFailed(Exception):
    """A step could not be done; the message names the fix."""


def say(text: str) -> None:
    """Print one line at once, whole, whichever thread says it."""
    with _printing:
        print(text, flush=True)


def step(title: str, work: Callable[[], str | None]) -> None:
    """Do `work` and say how long it took, with what it returns as a remark."""
    say(f"  ...  {title}")
    begun = time.monotonic()
    remark = work()
    say(f"  ok   {title}{f': {remark}' if remark else ''} ({time.monotonic() - begun:.1f} s)")


def fingerprint(files: Iterable[Path], *more: str) -> str:
    """A digest of the files' names and contents, and of `more`."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(path.read_bytes())
    for text in more:
        digest.update(f"\0{text}".encode())
    return digest.hexdigest()


def is_done(name: str, inputs: str) -> bool:
    """Whether the step `name` was done for these very inputs."""
    stamp = STAMPS / name
    return stamp.is_file() and stamp.read_text() == inputs


def mark_done(name: str, inputs: str) -> None:
    """Remember that the step `name` was done for these inputs."""
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / name).write_text(inputs)


def run(
    name: str,
    command: Sequence[str | Path],
    *,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    fix: str = "",
) -> None:
    """Run one command, its output into `.tools/logs/NAME.log`.

    Args:
        name: Names the log file.
        command: Program and arguments.
        cwd: Folder it runs in.
        env: Variables added to this process's own.
        fix: What a person can do when it fails, said after the output.

    Raises:
        StepFailed: It could not be started or failed; the end of its output is in the message.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    words = [str(word) for word in command]
    with log.open("w", encoding="utf-8", errors="replace") as output:
        try:
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except FileNotFoundError:
            raise StepFailed(f"{words[0]} was not found. {fix}".strip()) from None
        _running.add(process)
        try:
            status = process.wait()
        finally:
            _running.discard(process)
    if status:
        end = log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LINES:]
        said = "\n".join(f"      {line}" for line in end)
        raise StepFailed(f"{' '.join(words[:4])} ... failed ({status}). All of it: {log}\n{said}\n{fix}".rstrip())


def together(*works: Callable[[], None]) -> None:
    """Do several works at once; when one fails, what the others run is ended and its failure raised."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except (StepFailed, OSError) as failure:
            failures.append(failure)
            for process in tuple(_running):
                process.terminate()

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not failures:
        time.sleep(0.02)
    if failures:
        raise failures[0]


def leave(failure: BaseException | str) -> int:
    """Say a failure to a person; the exit status to leave with."""
    print(f"\n  FAILED  {failure}", file=sys.stderr, flush=True)
    return 1
