"""What watchdogs found, as a metric."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, generate_latest

from engines.watchdog import LOGGER, WATCHDOGS, bite
from services.watchdog_counter import WatchdogCounter


def test_every_watchdog_is_there_from_the_start_and_counts_its_own_lines() -> None:
    registry = CollectorRegistry()
    counter = WatchdogCounter(registry)
    with counter.counting():
        bite("silent_reply", "a reply without sound was ended", session="s1")
        bite("silent_reply", "a reply without sound was ended", session="s2")
        logging.getLogger(LOGGER).warning("not a watchdog's line")
    bite("half_open_socket", "nobody counts now")
    page = generate_latest(registry).decode()
    counts = {what: 2.0 if what == "silent_reply" else 0.0 for what in WATCHDOGS}
    for what, count in counts.items():
        assert f'voice_node_watchdog_total{{what="{what}"}} {count}' in page
