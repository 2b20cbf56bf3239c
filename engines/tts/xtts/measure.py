"""Measures what rounds take on this machine, and warms up everything that a first reply would have to wait for."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from engines.tts.xtts.admission import RoundCost, fits
from engines.tts.xtts.batch import Batch
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.sampling import Sampling
from engines.tts.xtts.vocoder import SpeechWindow, Vocoder

PROMPT = 40
"""Text ids of a usual piece: about 100 characters of English."""

STEPS = 4
"""Steps of which the quickest counts: what slows one down is something else that the machine does."""

CHUNK = 8
"""Codes of the vocoder's measured call."""


def measure(
    batch: Batch, vocoder: Vocoder, latents: Latents, streams: int, cost: RoundCost, called_off: Callable[[], bool]
) -> None:
    """Measure steps with 1, 2, 4, ... streams, as far as they stay faster than real time, and tell `cost`.

    Args:
        batch: Without any stream in it.
        vocoder: Of the same checkpoint.
        latents: Any that fit the checkpoint.
        streams: Number of streams beyond which nothing is measured.
        cost: Gets the measurements.
        called_off: Whether something more urgent has come up; then what was measured so far has to do.
    """
    steps: dict[int, float] = {}
    slots: list[int] = []
    per_code = _vocoder(vocoder, latents)
    per_prompt = float("inf")
    ids = [2 + number % 8 for number in range(PROMPT)]
    quiet = Sampling(seed=0)
    try:
        for number in sorted({*(1 << power for power in range(10) if 1 << power <= streams), streams}):
            while len(slots) < number:
                if called_off():
                    return
                per_prompt = min(per_prompt, _timed(lambda: slots.append(batch.join(ids, latents, quiet))))
            steps[number] = min(_timed(batch.step) for _ in range(STEPS))
            for slot in slots:
                batch.leave(slot)
            slots.clear()
            cost.measured(steps, per_code, per_prompt)
            if called_off() or not fits([cost.of(number)]):
                break
    finally:
        for slot in slots:
            batch.leave(slot)


def _vocoder(vocoder: Vocoder, latents: Latents) -> float:
    """Seconds for one code."""
    width = latents.gpt.shape[1]

    def decode() -> None:
        window = SpeechWindow(latents.speaker)
        window.push(torch.zeros(CHUNK, width))
        vocoder.decode([(window, True)])

    decode()
    return min(_timed(decode) for _ in range(2)) / CHUNK


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
