"""Counts what `engines.tally` tells of, in this process and in the jobs whose log lines reach it, for `/metrics`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter

from engines.tally import FIELD, HAPPENINGS, LOGGER

MOST_LABEL_SETS = 100
"""Per counter; further ones are counted as `other`: whatever goes wrong, a registry stays small."""
OTHER = "other"


class TallyCounter(logging.Handler):
    """`voice_node_{happening}_total` for every happening, from the start.

    Args:
        registry: Where the counters are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(logging.INFO)
        self._counters: dict[str, Counter] = {
            what: Counter(f"voice_node_{what}", help_text, labels, registry=registry)
            for what, (help_text, labels) in HAPPENINGS.items()
        }
        self._seen: dict[str, set[tuple[str, ...]]] = {what: set() for what in HAPPENINGS}

    def emit(self, record: logging.LogRecord) -> None:
        """Count one log line if it is a tally's."""
        told = getattr(record, FIELD, None)
        counter = self._counters.get(str(record.msg))
        if not isinstance(told, tuple) or counter is None:
            return
        amount, given = told
        names = counter._labelnames
        values = self._labels(str(record.msg), tuple(str(given.get(name, "")) for name in names))
        (counter.labels(*values) if names else counter).inc(amount)

    def _labels(self, what: str, values: tuple[str, ...]) -> tuple[str, ...]:
        seen = self._seen[what]
        if values not in seen and len(seen) >= MOST_LABEL_SETS:
            return (OTHER,) * len(values)
        seen.add(values)
        return values

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count while the block runs, whatever the log shows; the lines go nowhere else."""
        logger = logging.getLogger(LOGGER)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
            if not logger.handlers:
                logger.setLevel(logging.NOTSET)
                logger.propagate = True
