"""From a step's logits to codes: every row by its own settings and its own random numbers, all rows at once.

A row's random numbers are drawn when its stream joins, one for each code that it may make, so that its codes depend
neither on who shares its batch nor on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from engines.tts.xtts.coqui import Config
from engines.tts.xtts.errors import BadSampling

_PLACEHOLDER = 1
"""The code that stands for every position of the prompt in coqui's loop."""


@dataclass(frozen=True)
class Sampling:
    """How a stream's codes are drawn.

    Attributes:
        temperature: What the logits are divided by; over 0.
        top_k: How many of the likeliest codes may be drawn; 0 for all, 1 for always the likeliest.
        top_p: Share of the probability, from the likeliest code on, within which a code is drawn; over 0, up to 1.
        repetition_penalty: What codes that came before lose; 1 for nothing.
        seed: Makes a stream repeatable; None draws one.
    """

    temperature: float = 0.75
    top_k: int = 50
    top_p: float = 0.85
    repetition_penalty: float = 5.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise BadSampling("XTTS needs a temperature over 0; top_k=1 always takes the likeliest code.")
        if self.top_k < 0:
            raise BadSampling("XTTS needs a top_k of 1 or more, or 0 for all codes.")
        if not 0 < self.top_p <= 1:
            raise BadSampling("XTTS needs a top_p over 0 and up to 1.")
        if not self.repetition_penalty > 0:
            raise BadSampling("XTTS needs a repetition penalty over 0; 1 changes nothing.")

    @classmethod
    def of(cls, config: Config, seed: int | None = None) -> Sampling:
        """The settings that a checkpoint's own configuration asks for."""
        return cls(config.temperature, config.top_k, config.top_p, config.repetition_penalty, seed)


class Drawn(NamedTuple):
    """What was drawn for each row, each of shape (rows,).

    `stop_rank` and `stop_probability` say how near the network was to its end, before penalty and temperature: how
    many codes it found likelier than the stop code, and the stop code's probability.
    """

    code: Tensor
    stop_rank: Tensor
    stop_probability: Tensor


class Sampler:
    """The settings, random numbers and past codes of all rows.

    Coqui's loop feeds its prompt to the repetition penalty as code 1 and the start code, so these two are penalised
    from the start. The order of things is that of transformers: penalty, temperature, top-k, top-p.

    Args:
        rows: How many rows there are.
        codes: How many different codes there are.
        start: The start code.
        stop: The stop code.
        most: How many codes a stream may make.
        device: Where the logits will be.
    """

    def __init__(self, rows: int, codes: int, start: int, stop: int, most: int, device: torch.device) -> None:
        self._stop = stop
        self._always = torch.tensor([_PLACEHOLDER, start], device=device)
        self._codes = codes
        self._most = most
        self._past = torch.zeros(rows, codes, dtype=torch.bool, device=device)
        self._chance = torch.zeros(rows, most, device=device)
        self._settings = torch.ones(rows, 4, device=device)
        self._top_k = [1] * rows

    def join(self, row: int, sampling: Sampling) -> None:
        """Make a row ready for a new stream."""
        generator = torch.Generator()
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        top_k = min(sampling.top_k or self._codes, self._codes)
        self._chance[row] = torch.rand(self._most, generator=generator)
        self._past[row] = False
        self._past[row, self._always] = True
        settings = [sampling.repetition_penalty, sampling.temperature, top_k, sampling.top_p]
        self._settings[row] = torch.tensor(settings)
        self._top_k[row] = top_k

    def move(self, source: int, target: int) -> None:
        """Let a row's stream go on in another row."""
        for rows in (self._past, self._chance, self._settings):
            rows[target] = rows[source]
        self._top_k[target] = self._top_k[source]

    def draw(self, logits: Tensor, made: Tensor) -> Drawn:
        """Draw each row's next code.

        Args:
            logits: The network's, float32, shape (rows, codes).
            made: How many codes each row made before, shape (rows,).
        """
        rows = len(logits)
        penalty, temperature, top_k, top_p = self._settings[:rows, :, None].unbind(1)
        past = self._past[:rows]
        weighed = torch.where(past, torch.where(logits < 0, logits * penalty, logits / penalty), logits) / temperature
        likeliest, codes = weighed.topk(max(self._top_k[:rows]))
        ranks = torch.arange(likeliest.shape[1], device=logits.device)
        shares = likeliest.masked_fill(ranks >= top_k, -torch.inf).softmax(1)
        shares = shares.where(shares.cumsum(1) - shares < top_p, 0)
        # Laid out by code, not by rank: codes that are likely alike change ranks with the last digit of a logit.
        reached = torch.zeros(logits.shape, dtype=torch.double, device=logits.device)
        reached = reached.scatter_(1, codes, shares.double()).cumsum_(1)
        chance = self._chance[:rows].gather(1, made[:, None]) * reached[:, -1:]
        code = (reached <= chance).sum(1, keepdim=True).clamp_(max=self._codes - 1)  # beyond it where all is NaN
        past.scatter_(1, code, True)
        stop = logits[:, self._stop : self._stop + 1]
        return Drawn(code.squeeze(1), (logits > stop).sum(1), logits.softmax(1)[:, self._stop])
