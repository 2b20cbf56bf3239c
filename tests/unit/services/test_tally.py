"""What happens is counted, here and by log lines of other processes, and no counter grows without bound."""

from __future__ import annotations

import logging
from io import StringIO

from prometheus_client import CollectorRegistry, generate_latest

from engines.tally import HAPPENINGS, LOGGER, tally
from services.tally_counter import MOST_LABEL_SETS, TallyCounter


def page(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_what_happens_is_counted_while_somebody_counts_and_printed_nowhere() -> None:
    registry = CollectorRegistry()
    counter = TallyCounter(registry)
    printed = StringIO()
    logging.getLogger().addHandler(screen := logging.StreamHandler(printed))
    with counter.counting():
        tally("interruptions", transport="room")
        tally("interruptions", 2, transport="room")
        tally("database_errors")
        logging.getLogger(LOGGER).info("not a tally")
        logging.getLogger(LOGGER).info("interruptions")
    logging.getLogger().removeHandler(screen)
    text = page(registry)
    assert 'voice_node_interruptions_total{transport="room"} 3.0' in text
    assert "voice_node_database_errors_total 1.0" in text
    assert not printed.getvalue()


def test_every_counter_is_described_from_the_start() -> None:
    registry = CollectorRegistry()
    TallyCounter(registry)
    text = page(registry)
    for what, (help_text, _) in HAPPENINGS.items():
        assert f"# HELP voice_node_{what}_total {help_text}" in text


def test_a_label_that_runs_wild_ends_in_one_that_takes_the_rest() -> None:
    registry = CollectorRegistry()
    counter = TallyCounter(registry)
    with counter.counting():
        for number in range(MOST_LABEL_SETS + 50):
            tally("engine_failures", engine="espeak", code=f"code{number}")
    lines = [line for line in page(registry).splitlines() if line.startswith("voice_node_engine_failures_total{")]
    assert len(lines) == MOST_LABEL_SETS + 1
    assert 'voice_node_engine_failures_total{code="other",engine="other"} 50.0' in lines
