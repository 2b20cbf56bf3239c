"""Which of several engines serves next: failing ones are put aside for a while that grows, then tried again.

Free of I/O; the clock is given. Used by every class in fallback.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic, TypeAlias, TypeVar

from engines.tally import tally
from engines.types import (
    Capacity,
    Engine,
    EngineBadInput,
    EngineError,
    EngineFull,
    EngineInfo,
    EngineLate,
    EngineNotConfigured,
    EngineUnavailable,
    Health,
)
from engines.watchdog import bite

logger = logging.getLogger("voice_node.engines")

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 60.0
HEALTH_DEADLINE = 1.0

E = TypeVar("E", bound=Engine)

OnFailure: TypeAlias = Callable[[str, str], None]
"""Told each failure that made a call go on to the next engine: the engine's name and the error's code."""


class Place(Generic[E]):
    """One engine's place in the line, and since when and how often it has failed."""

    def __init__(self, engine: E) -> None:
        self.engine = engine
        self.failures = 0
        self.aside_until = float("-inf")

    @property
    def name(self) -> str:
        """The engine's name in the lists."""
        return self.engine.info.name


class Attempt(Generic[E]):
    """One call's use of one engine, from which the line learns how the engine does."""

    def __init__(self, line: Line[E], place: Place[E], tried: list[EngineError]) -> None:
        self._line = line
        self._place = place
        self._failures_before = place.failures
        self._tried = tried
        self.engine = place.engine
        self.name = place.name

    def succeeded(self) -> None:
        """The engine answered: it is trusted again."""
        if self._place.failures:
            logger.info("engine serves again", extra={"engine": self.name})
        self._place.failures = 0
        self._place.aside_until = float("-inf")

    def failed(self, error: Exception) -> EngineError:
        """The engine failed or is full: put it aside.

        Returns:
            What to raise where no other engine can take over.

        Raises:
            EngineBadInput: No other engine would do better with this input; the engine isn't to blame.
        """
        if isinstance(error, EngineBadInput):
            raise error
        problem = as_engine_error(error, self.name)
        self._tried.append(problem)
        self._line.put_aside(self._place, problem, self._failures_before)
        return problem


class Line(Generic[E]):
    """Engines in the order of preference.

    Args:
        engines: One or more.
        clock: Seconds that only grow; for tests, a virtual one.
        on_failure: Told each failure, for metrics.

    Raises:
        ValueError: `engines` is empty.
    """

    def __init__(
        self, engines: Sequence[E], clock: Callable[[], float] = time.monotonic, on_failure: OnFailure | None = None
    ) -> None:
        if not engines:
            raise ValueError("a line of engines needs at least one")
        self._places = [Place(engine) for engine in engines]
        self._clock = clock
        self.on_failure = on_failure

    def attempts(self) -> Iterator[Attempt[E]]:
        """The engines to try for one call, each once; those put aside come last, as a last resort.

        Raises:
            EngineError: At the end, when every engine has failed in this call.
        """
        left = list(self._places)
        tried: list[EngineError] = []
        while left:
            now = self._clock()
            place = next((place for place in left if place.aside_until <= now), left[0])
            left.remove(place)
            if place.failures and place.aside_until <= now:
                # One call at a time finds out whether it is well again; the others pass it by meanwhile.
                place.aside_until = now + _backoff(place.failures)
            yield Attempt(self, place, tried)
        raise _exhausted([place.name for place in self._places], tried)

    def put_aside(self, place: Place[E], error: EngineError, failures_before: int) -> None:
        """Pass an engine by for a while; failures of calls that began together count once."""
        if isinstance(error, EngineFull):
            pause = error.retry_after or FIRST_BACKOFF
        else:
            if place.failures == failures_before:
                place.failures += 1
            pause = LONGEST_BACKOFF if isinstance(error, EngineNotConfigured) else _backoff(place.failures)
            pause = max(pause, min(error.retry_after or 0.0, LONGEST_BACKOFF))
        place.aside_until = self._clock() + pause
        logger.warning(
            "engine put aside",
            extra={"engine": place.name, "code": error.code, "seconds": round(pause, 1), "reason": error.message},
        )
        tally("engine_failures", engine=place.name, code=error.code)
        if self.on_failure is not None:
            self.on_failure(place.name, error.code)

    @property
    def engines(self) -> tuple[E, ...]:
        """All engines in the order of preference."""
        return tuple(place.engine for place in self._places)

    @property
    def serving(self) -> E:
        """The engine that the next call tries first."""
        now = self._clock()
        return next((place for place in self._places if place.aside_until <= now), self._places[0]).engine

    @property
    def info(self) -> EngineInfo:
        """What the engine is that the next call tries first; paid too where a better one is, which is tried again."""
        serving = self.serving
        paid = False
        for place in self._places:
            paid = paid or place.engine.info.paid
            if place.engine is serving:
                break
        return replace(serving.info, paid=paid)

    @property
    def capacity(self) -> Capacity:
        """What all engines hold together, since a full one hands over to the next."""
        each = [place.engine.capacity for place in self._places]
        limits = [capacity.limit for capacity in each if capacity.limit is not None]
        return Capacity(sum(capacity.held for capacity in each), sum(limits) if len(limits) == len(each) else None)

    async def start(self) -> None:
        """Start all engines at once; those that fail are put aside.

        Raises:
            EngineError: None of them started.
        """
        failures = [place.failures for place in self._places]
        results = await asyncio.gather(*(place.engine.start() for place in self._places), return_exceptions=True)
        errors = []
        for place, before, result in zip(self._places, failures, results, strict=True):
            if isinstance(result, asyncio.CancelledError):
                raise result
            if result is not None:
                errors.append(as_engine_error(result, place.name))
                self.put_aside(place, errors[-1], before)
        if len(errors) == len(self._places):
            raise _exhausted([place.name for place in self._places], errors)

    async def health(self) -> Health:
        """Well while one engine is; the reason names those that aren't."""
        healths = await asyncio.gather(*(_health(place.engine) for place in self._places))
        poor = [
            f"{place.name}: {health.reason}"
            for place, health in zip(self._places, healths, strict=True)
            if not health.ok
        ]
        return Health(len(poor) < len(self._places), "; ".join(poor))

    async def aclose(self) -> None:
        """Close all engines, whatever goes wrong with one of them."""
        results = await asyncio.gather(*(place.engine.aclose() for place in self._places), return_exceptions=True)
        for place, result in zip(self._places, results, strict=True):
            if isinstance(result, Exception):
                logger.warning("engine did not close", extra={"engine": place.name, "error": repr(result)})


class BoundedLine(Line[E]):
    """A line of engines with the longest wait for an answer, which the three kinds share.

    Args:
        engines: In the order of preference.
        deadline: Seconds after which an engine that gives nothing is left.
        clock: Seconds that only grow.
        on_failure: Told each failure, for metrics.
    """

    def __init__(
        self,
        engines: Sequence[E],
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
        on_failure: OnFailure | None = None,
    ) -> None:
        super().__init__(engines, clock, on_failure)
        self.deadline = deadline


@contextmanager
def answering(name: str) -> Iterator[None]:
    """Say and count which engine it was when its deadline passes."""
    try:
        yield
    except TimeoutError as error:
        bite("engine_deadline", "an engine gave nothing within its deadline, its call was ended", engine=name)
        raise EngineLate(f"{name} did not answer in time.") from error


def as_engine_error(error: BaseException, name: str) -> EngineError:
    """Any failure of the engine `name` as an engine error."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, TimeoutError):
        return EngineLate(f"{name} did not answer in time.")
    wrapped = EngineError(f"{name} failed with {type(error).__name__}; the log says where.")
    wrapped.__cause__ = error
    logger.error("engine raised", exc_info=error, extra={"engine": name})
    return wrapped


def _backoff(failures: int) -> float:
    return min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures - 1, 10))


def _exhausted(names: Sequence[str], errors: Sequence[EngineError]) -> EngineError:
    """One error for a call that no engine could serve."""
    if len(errors) == 1:
        return errors[0]
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    message = f"None of {', '.join(names)} could serve: {' '.join(error.message for error in errors)}"
    if any(isinstance(error, EngineFull) for error in errors):
        return EngineFull(message, retry_after=min(waits, default=FIRST_BACKOFF))
    kind = EngineLate if any(isinstance(error, EngineLate) for error in errors) else EngineUnavailable
    return kind(message, retry_after=min(waits, default=None))


async def _health(engine: Engine) -> Health:
    try:
        async with asyncio.timeout(HEALTH_DEADLINE):
            return await engine.health()
    except TimeoutError:
        return Health(False, "does not answer")
