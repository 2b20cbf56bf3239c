"""Counts what watchdogs found, by the log lines that say so, for a process's `/metrics`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter

from engines.watchdog import FIELD, LOGGER, WATCHDOGS


class WatchdogCounter(logging.Handler):
    """`voice_node_watchdog_total{what}`: one for each log line of `engines.watchdog.bite`.

    Args:
        registry: Where the counter is registered; every watchdog is there from the start, at 0.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(logging.WARNING)
        self._bites = Counter(
            "voice_node_watchdog", "Faults that a watchdog found and ended or repaired", ("what",), registry=registry
        )
        for what in WATCHDOGS:
            self._bites.labels(what)

    def emit(self, record: logging.LogRecord) -> None:
        """Count one log line if it is a watchdog's."""
        what = getattr(record, FIELD, None)
        if what in WATCHDOGS:
            self._bites.labels(what).inc()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count while the block runs, whatever the log shows."""
        logger = logging.getLogger(LOGGER)
        logger.setLevel(logging.WARNING)
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
