"""The latency record: where the time between a person's last word and the first sound of the answer goes.

One record a turn (contract.md, "Latency record"). All offsets are seconds after the end of speech and
negative where work ahead had it done before. The record is published when the first sound is handed to
the transport, and again when the client has reported the moment it was heard.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from conversation.ear import TurnEnded
from conversation.moments import Moments, steady_moments

logger = logging.getLogger("voice_node.turn")

Record: TypeAlias = dict[str, float | int | str | None]

STAGES = ("commit", "transcript", "first_token", "first_audio", "sent", "heard")

# Finer around the human gap of 0.2 s than Prometheus's defaults, and below zero, where speculation was ahead.
BUCKETS = (-0.2, -0.1, 0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)

KEPT = 32
"""Records kept for a client's late report of what it heard."""


class LatencyHistograms:
    """The stages of all turns of a process, as one Prometheus histogram."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._stages = Histogram(
            "voice_node_turn_seconds",
            "Seconds from the end of the user's speech to each stage of the answer",
            ("stage", "transport"),
            buckets=BUCKETS,
            registry=registry,
        )

    def observe(self, stage: str, transport: str, seconds: float) -> None:
        """Count one stage of one turn."""
        self._stages.labels(stage, transport).observe(seconds)


@dataclass
class Generation:
    """When one reply under way reached its stages, in unix seconds; most replies begun ahead are thrown away."""

    first_token: float | None = None
    first_audio: float | None = None


@dataclass
class LatencyLog:
    """Follows the turns of one conversation and gives a record for each that was answered aloud.

    Attributes:
        session: The conversation's id.
        transport: `websocket`, `room` or `console`; a label of the histograms.
        publish: Told every record, at `sent` and again at `heard`.
        histograms: Where the stages are counted.
        clock: Tells the moments of all stages, unix seconds.
    """

    session: str
    transport: str
    publish: Callable[[Record], None]
    histograms: LatencyHistograms | None = None
    clock: Moments = field(default_factory=steady_moments)
    _turn: int = 0
    _open: TurnEnded | None = None
    _generation: Generation | None = None
    _records: OrderedDict[int, Record] = field(default_factory=OrderedDict)

    def generation_started(self) -> Generation:
        """A reply is being written; the newest one is the one that will be heard."""
        self._generation = Generation()
        return self._generation

    @property
    def generation(self) -> Generation | None:
        """The newest reply."""
        return self._generation

    def turn_ended(self, turn: TurnEnded) -> None:
        """The user's turn was committed."""
        self._turn += 1
        self._open = turn

    def reply_sent(self, at: float | None = None) -> None:
        """The first sound of a reply was handed to the transport, at this moment where None (unix seconds)."""
        at = self.clock() if at is None else at
        turn, self._open = self._open, None
        if turn is None:
            return  # a greeting, or the answer to a typed message
        made = self._generation or Generation()

        def after(moment: float | None) -> float | None:
            return None if moment is None else round(moment - turn.speech_end, 4)

        record: Record = {
            "turn": self._turn,
            "session": self.session,
            "speech_end": round(turn.speech_end, 4),
            "commit": after(turn.commit_at),
            "transcript": after(turn.transcript_at),
            "first_token": after(made.first_token),
            "first_audio": after(made.first_audio),
            "sent": after(at),
            "heard": None,
        }
        self._records[self._turn] = record
        while len(self._records) > KEPT:
            self._records.popitem(last=False)
        self._observe(record, STAGES[:-1])
        logger.info("turn", extra={"record": record})
        self.publish(dict(record))

    def heard(self, turn: int, at: float) -> None:
        """The client heard the first sound of a turn's answer at this moment (unix seconds, our clock).

        Raises:
            LookupError: No such turn is waiting for a report.
        """
        record = self._records.get(turn)
        if record is None:
            raise LookupError(f"there is no turn {turn} to report on")
        speech_end = record["speech_end"]
        assert isinstance(speech_end, float)
        record["heard"] = round(at - speech_end, 4)
        self._observe(record, ("heard",))
        self.publish(dict(record))

    def _observe(self, record: Record, stages: tuple[str, ...]) -> None:
        for stage in stages:
            seconds = record[stage]
            if self.histograms is not None and isinstance(seconds, float):
                self.histograms.observe(stage, self.transport, seconds)
