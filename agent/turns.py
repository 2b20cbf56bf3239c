"""How the turns of all rooms come together in the worker: as the log lines they are.

A job runs in a process of its own, whose log lines reach the worker with their fields. The latency
records among them are counted there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from conversation.latency import STAGES, LatencyHistograms

TURN_LOGGER = "voice_node.turn"
HEARD = "turn heard"
"""The log line of a record whose `heard` has come in; the one at `sent` has all other stages."""


class TurnCounter(logging.Handler):
    """Counts the latency records among the log lines it sees."""

    def __init__(self, histograms: LatencyHistograms) -> None:
        super().__init__(logging.INFO)
        self._histograms = histograms

    def emit(self, record: logging.LogRecord) -> None:
        """Count one log line if it is a record."""
        turn = getattr(record, "record", None)
        if not isinstance(turn, Mapping):
            return
        for stage in ("heard",) if record.msg == HEARD else STAGES[:-1]:
            seconds = turn.get(stage)
            if isinstance(seconds, int | float):
                self._histograms.observe(stage, "room", float(seconds))
