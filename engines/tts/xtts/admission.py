"""How many replies a machine can speak at once without one of them stumbling, by what its steps cost; free of I/O.

Every stream needs a code for each `CODE_SECONDS` of its sound. So a round (one step for all streams, their share of the
vocoder and of the prompts to be read) has to take less than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engines.types import EngineFull

CODE_SECONDS = 1024 / 22_050
"""Seconds of sound in one code."""

MARGIN = 0.9
"""Share of real time that may be used; the rest is for what else the machine does."""

CODES_PER_PROMPT = 60
"""Codes that a piece of text has on average: how often a stream has another prompt to be read."""

NEWEST = 0.1
"""Weight of the newest measurement."""

OUTLIER = 4.0
"""Times the cost known so far that one measurement may count for: a pause of the whole process is no step."""

SHORTEST_WAIT, LONGEST_WAIT = 0.5, 3.0
"""Seconds after which a refused caller may ask again: replies are called off more often than spoken to their end."""

TOO_SLOW_WAIT = 10.0
"""The same where not even one reply can be spoken."""


class RoundCost:
    """What a round takes, in seconds, by the number of streams in it.

    Steps are measured once, before anybody speaks, for several numbers of streams. Those of running streams tell how
    fast the machine is now; that is forgotten when the last one has left, since what slowed it may be over.
    """

    def __init__(self) -> None:
        self._steps: dict[int, float] = {}
        self._slower = 1.0
        self._per_code = self._base_code = 0.0
        self._per_prompt = self._base_prompt = 0.0

    def measured(self, steps: Mapping[int, float], per_code: float, per_prompt: float) -> None:
        """Take in what was measured without any stream running.

        Args:
            steps: Seconds of a step by the number of streams in it.
            per_code: Seconds of the vocoder for one code.
            per_prompt: Seconds for reading the prompt of one piece of text.
        """
        self._steps = dict(steps)
        self._base_code = per_code
        self._base_prompt = per_prompt
        self.idle()

    def step(self, streams: int, seconds: float) -> None:
        """Take in a step of running streams."""
        if (known := self._measured(streams)) > 0:
            self._slower = _mean(self._slower, seconds / known)

    def vocoder(self, codes: int, seconds: float) -> None:
        """Take in one call of the vocoder."""
        if codes > 0:
            self._per_code = _mean(self._per_code or None, seconds / codes)

    def prompt(self, seconds: float) -> None:
        """Take in the reading of one prompt."""
        self._per_prompt = _mean(self._per_prompt or None, seconds)

    def idle(self) -> None:
        """Nobody speaks any more."""
        self._slower = 1.0
        self._per_code = self._base_code
        self._per_prompt = self._base_prompt

    @property
    def per_code(self) -> float:
        """Seconds of the vocoder for one code."""
        return self._per_code

    @property
    def per_prompt(self) -> float:
        """Seconds for reading the prompt of one piece of text."""
        return self._per_prompt

    def step_of(self, streams: int) -> float:
        """Seconds of a step with this many streams, as fast as the machine is now."""
        return self._measured(streams) * self._slower

    def _measured(self, streams: int) -> float:
        """Seconds as measured, or judged by the numbers of streams beside it."""
        if streams <= 0 or not self._steps:
            return 0.0
        if (known := self._steps.get(streams)) is not None:
            return known
        fewer = [number for number in self._steps if number < streams]
        more = [number for number in self._steps if number > streams]
        if not fewer:
            return self._steps[min(more)]
        below = max(fewer)
        if more:
            above = min(more)
            share = (streams - below) / (above - below)
            return self._steps[below] + share * (self._steps[above] - self._steps[below])
        # Beyond all that was measured a step grows as it did last, or with the streams where only one number is known.
        before = max((number for number in fewer if number < below), default=0)
        slope = (self._steps[below] - self._steps.get(before, 0.0)) / (below - before)
        return self._steps[below] + max(0.0, slope) * (streams - below)

    def of(self, streams: int) -> float:
        """Seconds of a round with this many streams."""
        return self.step_of(streams) + streams * (self._per_code + self._per_prompt / CODES_PER_PROMPT)

    def most(self, limit: int) -> int:
        """How many streams, `limit` at most, are spoken faster than they are heard."""
        return next((number for number in range(limit, 0, -1) if fits([self.of(number)])), 0)


def fits(rounds: Iterable[float]) -> bool:
    """Whether all streams stay faster than real time, given the round of each checkpoint that speaks now."""
    return sum(rounds) <= CODE_SECONDS * MARGIN


def refusal(running: Sequence[float], round_seconds: float) -> EngineFull:
    """What a caller is told whom there is no room for.

    Args:
        running: Codes that each running stream is expected to have before it.
        round_seconds: What a round takes now.
    """
    if not running:
        factor = round_seconds / CODE_SECONDS
        return EngineFull(
            f"XTTS would need {factor:.2f} s for a second of speech on this machine, too slow to speak live; set "
            "XTTS_PRECISION=int8, use a GPU, or set XTTS_STREAMS=1 to let it speak with pauses.",
            retry_after=TOO_SLOW_WAIT,
        )
    soonest = min(running) * max(round_seconds, 0.001)
    return EngineFull(
        f"XTTS speaks {len(running)} replies now, and one more would make them stumble.",
        retry_after=min(LONGEST_WAIT, max(SHORTEST_WAIT, soonest)),
    )


def _mean(known: float | None, seconds: float) -> float:
    if known is None:
        return seconds
    return known + NEWEST * (min(seconds, OUTLIER * known) - known)
