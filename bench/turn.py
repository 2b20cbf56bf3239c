"""One question of a load's caller and what came of it; one call that found every place taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from bench.questions import STAGES

Outcome = Literal["answered", "refused", "unanswered"]


@dataclass
class Turn:
    """One question.

    Attributes:
        transport: `websocket` or `room`.
        caller: Number of the caller, from 0.
        at: Seconds from the begin of the run to the end of the question's sound.
        question: Its text.
        barged_in: Whether it was spoken over the reply before it.
        outcome: Whether an answer was heard, the agent told in words why there is none (it is full, an engine
            failed or was too slow), or neither.
        code: Of a refusal.
        why: More about a turn that wasn't answered.
        first_audible: Seconds from the last audible sample sent to the first audible one received.
        stages: The latency record's offsets in seconds.
        yielded: For a barge-in, whether the reply before it stopped.
    """

    transport: str
    caller: int
    at: float
    question: str
    barged_in: bool = False
    outcome: Outcome = "unanswered"
    code: str = ""
    why: str = ""
    first_audible: float | None = None
    stages: dict[str, float | None] = field(default_factory=dict)
    yielded: bool | None = None

    def refuse(self, code: str, message: str) -> None:
        """Note that the agent said why it doesn't answer."""
        self.outcome, self.code, self.why = "refused", code, message

    def record(self, record: dict[str, Any]) -> None:
        """Take over the offsets of a latency record."""
        self.stages = {stage: record.get(stage) for stage in STAGES}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was refused, and how many seconds after it began.

    Attributes:
        code: The error's code; `full` where every place was taken.
    """

    transport: str
    at: float
    seconds: float
    code: str
