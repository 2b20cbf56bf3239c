"""The stack that end-to-end tests share, and its log where one of them fails."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e.faults import THROUGH_SERVICES
from tests.e2e.stack import ROOT, Stack

RESULTS = ROOT / "test-results" / "e2e"


@pytest.fixture(scope="session")
def results() -> Path:
    """Folder that keeps screenshots and logs."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    return RESULTS


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, results: Path) -> Iterator[Stack]:
    """Everything, started once for all tests; stopping it leaves no process behind."""
    log = results / "stack.log"
    log.unlink(missing_ok=True)
    with Stack(tmp_path_factory.mktemp("stack"), log).running() as running:
        yield running


@pytest.fixture(scope="session")
def through_services(tmp_path_factory: pytest.TempPathFactory, results: Path) -> Iterator[Stack]:
    """Everything, with conversations that depend on every service, for faults that others shouldn't meet."""
    log = results / "faults.log"
    log.unlink(missing_ok=True)
    with Stack(tmp_path_factory.mktemp("faults"), log, environment=THROUGH_SERVICES).running() as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole conversations, and the start of the stack before the first, take longer than a unit test may."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(420))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the stacks' logs with a failed test."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Stack):
                report.sections.append(("stack log", value.tail()))
    return report
