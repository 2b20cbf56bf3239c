"""What the dependency audit makes of answers in the shape of pip-audit's and npm's."""

from __future__ import annotations

import datetime
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
TODAY = datetime.date(2026, 11, 24)


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("audit")


def pip_report(*vulns: dict[str, Any]) -> dict[str, Any]:
    return {
        "dependencies": [
            {"name": "fine", "version": "1.0", "vulns": []},
            {"name": "odd", "skip_reason": "Dependency not found on PyPI and could not be audited: odd (1.0)"},
            {"name": "jinja2", "version": "2.4.1", "vulns": list(vulns)},
        ],
        "fixes": [],
    }


FLAW = {
    "id": "PYSEC-2021-66",
    "fix_versions": ["2.11.3"],
    "aliases": ["CVE-2020-28493", "GHSA-g3rq-g295-4j3m"],
    "description": "A long text.",
}
NPM = {
    "auditReportVersion": 2,
    "vulnerabilities": {
        "minimist": {
            "name": "minimist",
            "severity": "critical",
            "via": [
                {
                    "source": 1097677,
                    "name": "minimist",
                    "title": "Prototype Pollution in minimist",
                    "url": "https://github.com/advisories/GHSA-xvch-5gv4-984h",
                    "severity": "critical",
                    "range": "<0.2.4",
                }
            ],
            "effects": ["mkdirp"],
            "range": "<0.2.4",
        },
        "mkdirp": {"name": "mkdirp", "severity": "critical", "via": ["minimist"], "range": "0.4.1 - 0.5.1"},
    },
}
NPM_AWAY = {"message": "405 Method Not Allowed - POST ...", "statusCode": 405, "error": {"summary": "", "detail": ""}}


def entry(id: str, expires: str) -> str:
    return f"[[ignored]]\nid = '{id}'\nreason = 'nothing here renders what others write'\nexpires = {expires}\n"


def test_a_known_vulnerability_fails_and_names_its_fix(audit: ModuleType) -> None:
    (line,) = audit.problems(audit.python_findings(pip_report(FLAW)), [], TODAY)
    assert "jinja2 2.4.1" in line
    assert "2.11.3" in line


def test_nothing_known_is_nothing_to_do(audit: ModuleType) -> None:
    assert audit.python_findings(pip_report()) == []
    assert audit.npm_findings({"auditReportVersion": 2, "vulnerabilities": {}}) == []


def test_a_service_that_tells_nothing_is_away_and_not_well(audit: ModuleType) -> None:
    skipped = {"dependencies": [{"name": "odd", "skip_reason": "Dependency not found on PyPI"}], "fixes": []}
    assert audit.python_findings(skipped) is None
    assert audit.python_findings({}) is None
    assert audit.npm_findings(NPM_AWAY) is None
    assert audit.npm_findings({}) is None


def test_npm_names_the_package_that_is_at_fault_once(audit: ModuleType) -> None:
    (line,) = audit.problems(audit.npm_findings(NPM), [], TODAY)
    assert line == "minimist <0.2.4: GHSA-xvch-5gv4-984h, Prototype Pollution in minimist"


@pytest.mark.parametrize("id", ["PYSEC-2021-66", "CVE-2020-28493", "GHSA-g3rq-g295-4j3m"])
def test_what_somebody_looked_at_is_ignored_under_any_of_its_names_until_its_day(audit: ModuleType, id: str) -> None:
    findings = audit.python_findings(pip_report(FLAW))
    ignored = audit.read_ignored(entry(id, "2026-11-25"))
    assert audit.problems(findings, ignored, TODAY) == []
    (line,) = audit.problems(findings, ignored, datetime.date(2026, 11, 25))
    assert "ignored until 2026-11-25" in line


def test_another_vulnerability_is_not_ignored_with_it(audit: ModuleType) -> None:
    ignored = audit.read_ignored(entry("CVE-2020-28493", "2030-01-31"))
    other = {**FLAW, "id": "PYSEC-2099-1", "aliases": []}
    assert len(audit.problems(audit.python_findings(pip_report(FLAW, other)), ignored, TODAY)) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[ignored]]\nid = 'X'\nexpires = 2030-01-31", "needs a reason"),
        ("[[ignored]]\nid = 'X'\nreason = ' '\nexpires = 2030-01-31", "needs a reason"),
        ("[[ignored]]\nid = 'X'\nreason = 'so'", "needs the day"),
        ("[[ignored]]\nid = 'X'\nreason = 'so'\nexpires = 'some day'", "needs the day"),
        ("[[ignored]]\nreason = 'so'\nexpires = 2030-01-31", "names a vulnerability"),
        ("[[ignored", "isn't TOML"),
    ],
)
def test_an_entry_without_reason_or_day_is_refused(audit: ModuleType, text: str, said: str) -> None:
    with pytest.raises(audit.AuditError, match=said):
        audit.read_ignored(text)


def test_the_projects_own_list_can_be_read(audit: ModuleType) -> None:
    assert all(one.reason for one in audit.read_ignored(audit.IGNORED.read_text()))
