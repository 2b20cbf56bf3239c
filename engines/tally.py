"""How something that happened gets counted on `/metrics`: one silent log line, taken up by services/tally_counter.py.

A log line reaches the metrics from every place: from rooms of the house that know of no registry, and from a room's
job, whose process has no page of its own and whose log lines reach the worker with their fields. The lines go to a
logger of their own that prints nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

LOGGER = "voice_node.tally"
FIELD = "tally"
"""The field of a log line that holds the labels' values."""

Happening: TypeAlias = Literal[
    "conversations",
    "calls_refused",
    "replies",
    "interruptions",
    "conversation_errors",
    "engine_failures",
    "segments_refused",
    "trimmed_speeches",
    "leases_lost",
    "database_errors",
    "history_writes_queued",
    "history_writes",
    "traces",
]

HAPPENINGS: Mapping[Happening, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "conversations": ("Conversations begun", ("transport",)),
        "calls_refused": ("Callers turned away before a conversation began", ("transport", "reason")),
        "replies": ("Replies spoken to their end", ("transport",)),
        "interruptions": ("Replies cut short by the person who listened", ("transport",)),
        "conversation_errors": ("Errors that a person in a conversation was told", ("transport", "code")),
        "engine_failures": ("Calls in which an engine failed or was full, and was put aside", ("engine", "code")),
        "segments_refused": ("Stretches of a transcript that Whisper made up, left out", ("engine", "reason")),
        "trimmed_speeches": ("Speech that ran on after its text and was ended", ("reason",)),
        "leases_lost": (
            "Conversations lost to another process, or to a database out of reach",
            ("reason",),
        ),
        "database_errors": ("Uses of the database that failed", ()),
        "history_writes_queued": ("Messages handed over for storing; those not in history_writes wait", ()),
        "history_writes": ("Messages stored, failed to be stored, or dropped with a lost lease", ("outcome",)),
        "traces": ("Turns whose trace was exported, or wasn't", ("outcome",)),
    }
)
"""What is counted: its help text and its labels, whose values are few: never an id, a name or a text of anybody."""

assert set(HAPPENINGS) == set(get_args(Happening))


def tally(what: Happening, amount: int = 1, **labels: str) -> None:
    """Count something that happened; may be called from any thread.

    Args:
        what: Which counter.
        amount: How often it happened.
        labels: A value for each of its labels.
    """
    logging.getLogger(LOGGER).info(what, extra={FIELD: (amount, labels)})
