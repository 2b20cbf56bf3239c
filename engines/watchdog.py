"""How a watchdog tells that it bit: one log line, which the process's metrics count (services/watchdog_counter.py).

A log line is the one thing that reaches the metrics from every place: from an engine that knows of no registry, and
from a room's job, whose process has no page of its own and whose log lines reach the worker with their fields.
"""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias, get_args

Watchdog: TypeAlias = Literal[
    "silent_reply", "engine_deadline", "stalled_loop", "room_without_agent", "half_open_socket"
]
"""What watches: a reply without sound, an engine call without an answer, an event loop that stands still, a room with
a person and no agent, a WebSocket whose client has vanished."""

WATCHDOGS: tuple[Watchdog, ...] = get_args(Watchdog)

LOGGER = "voice_node.watchdog"
FIELD = "watchdog"
"""The field of a log line that names the watchdog."""


def bite(what: Watchdog, event: str, **fields: object) -> None:
    """Tell that a watchdog found something and has ended or repaired it.

    Args:
        what: Which one.
        event: What was found and done, in few words, without anything that was said.
        fields: More about it.
    """
    logging.getLogger(LOGGER).warning(event, extra={FIELD: what, **fields})
