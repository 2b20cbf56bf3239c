"""Asks the vulnerability services of PyPI and npm about every pinned package: `make audit`, and part of `make test`.

A known vulnerability fails it, unless `requirements/audit-ignored.toml` says why it doesn't concern us, and until when.
A service that can't be reached is said and fails nothing: what it would have told is unknown, not bad.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from page import node
from steps import ROOT, VENV

IGNORED = ROOT / "requirements" / "audit-ignored.toml"
WITHIN = 240.0
"""Seconds for one service's whole answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A known vulnerability of a package that we pin.

    Attributes:
        package: Its name.
        ids: The names that the vulnerability goes by (PYSEC, CVE, GHSA).
        what: One line about it, with the fix where there is one.
    """

    package: str
    ids: frozenset[str]
    what: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A vulnerability that somebody has looked at.

    Attributes:
        id: One of its names.
        reason: Why it doesn't concern us.
        expires: Day from which on it has to be looked at again.
    """

    id: str
    reason: str
    expires: datetime.date


class AuditError(Exception):
    """The list of ignored vulnerabilities can't be used; says why."""


def read_ignored(text: str) -> list[Ignored]:
    """The entries of `audit-ignored.toml`.

    Raises:
        AuditError: It isn't TOML, or an entry lacks its reason or its day.
    """
    try:
        entries = tomllib.loads(text).get("ignored", [])
    except tomllib.TOMLDecodeError as error:
        raise AuditError(f"{IGNORED.name} isn't TOML: {error}") from None
    found = []
    for entry in entries:
        id, reason, expires = (entry.get(name) for name in ("id", "reason", "expires"))
        if not id or not isinstance(id, str):
            raise AuditError(f"{IGNORED.name}: each entry names a vulnerability: id = 'GHSA-...'")
        if not isinstance(reason, str) or not reason.strip():
            raise AuditError(f"{IGNORED.name}: {id} needs a reason = '...'")
        if not isinstance(expires, datetime.date) or isinstance(expires, datetime.datetime):
            raise AuditError(f"{IGNORED.name}: {id} needs the day on which to look at it again: expires = 2030-01-31")
        found.append(Ignored(id, reason, expires))
    return found


def python_findings(report: Mapping[str, Any]) -> list[Finding] | None:
    """What pip-audit's JSON tells; None where the service knew none of the packages, so that it told nothing."""
    packages: Sequence[Mapping[str, Any]] = report.get("dependencies", [])
    known = [package for package in packages if "vulns" in package]
    if not known:
        return None
    return [
        Finding(
            package["name"],
            frozenset({flaw["id"], *flaw.get("aliases", ())}),
            f"{package['name']} {package['version']}: {flaw['id']}, fixed in "
            f"{', '.join(flaw.get('fix_versions', ())) or 'no version yet'}",
        )
        for package in known
        for flaw in package["vulns"]
    ]


def npm_findings(report: Mapping[str, Any]) -> list[Finding] | None:
    """What `npm audit --json` tells; None where it tells of an error instead."""
    if "vulnerabilities" not in report:
        return None
    found = []
    for name, package in report["vulnerabilities"].items():
        for flaw in package["via"]:
            # A text is the name of another package, which has an entry of its own.
            if isinstance(flaw, Mapping):
                id = str(flaw["url"]).rsplit("/", 1)[-1]
                found.append(Finding(name, frozenset({id}), f"{name} {flaw['range']}: {id}, {flaw['title']}"))
    return found


def problems(findings: Collection[Finding], ignored: Collection[Ignored], today: datetime.date) -> list[str]:
    """What has to be done: one line for each vulnerability that nobody has looked at, or not for too long."""
    looked_at = {entry.id: entry for entry in ignored}
    lines = []
    for finding in findings:
        entries = [looked_at[id] for id in finding.ids if id in looked_at]
        if not entries:
            lines.append(finding.what)
        elif all(entry.expires <= today for entry in entries):
            lines.append(f"{finding.what} (ignored until {entries[0].expires}: {entries[0].reason})")
    return lines


def audit_python(files: Sequence[Path]) -> list[Finding] | None:
    """What PyPI knows of the pins in requirement files; None where it isn't reached."""
    command = [str(VENV / "bin" / "pip-audit"), "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    for file in files:
        command += ["--requirement", str(file)]
    return python_findings(_report([*command, "--format", "json"]))


def audit_page() -> list[Finding] | None:
    """What npm knows of the page's locked packages; None where it isn't reached."""
    return npm_findings(_report(["npm", "audit", "--json"], ROOT / "web"))


def _report(command: Sequence[str], folder: Path = ROOT) -> Mapping[str, Any]:
    """The JSON object that a command writes, which fails where it finds something; empty where it writes none."""
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **node()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WITHIN,
            check=False,
        )
        report = json.loads(ended.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return report if isinstance(report, dict) else {}


def audit() -> tuple[list[str], list[str]]:
    """Audit everything that is pinned.

    Returns:
        What has to be done, and what could not be found out; a line each.

    Raises:
        AuditError: The list of ignored vulnerabilities can't be used.
    """
    ignored = read_ignored(IGNORED.read_text(encoding="utf-8"))
    files = sorted((ROOT / "requirements").glob("*.txt"))
    # A service that is away answers each package's question late; the smallest file tells.
    probe = min(files, key=lambda file: file.stat().st_size)
    python = audit_python([probe])
    asked = {"PyPI": None if python is None else audit_python(files), "npm": audit_page()}
    findings = [finding for found in asked.values() for finding in found or ()]
    away = [f"{name} tells of no vulnerabilities here: not audited" for name, found in asked.items() if found is None]
    return problems(findings, ignored, datetime.datetime.now(datetime.UTC).date()), away


def main() -> int:
    """Audit; 0 where nothing is known against what is pinned."""
    try:
        wrong, away = audit()
    except AuditError as error:
        wrong, away = [str(error)], []
    for line in away:
        print(f"  note {line}")
    for line in wrong:
        print(f"  FAIL {line}")
    if wrong:
        print(f"  Upgrade (make lock UPGRADE=1; npm audit fix), or say in {IGNORED.name} why it doesn't concern us.")
    elif not away:
        print("  ok   nothing is known against what is pinned")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
