"""How the next token of each reply is drawn: greedily, or by temperature and top-p among the likeliest."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

CANDIDATES = 128
"""A token beyond this rank is never drawn: sorting a vocabulary of 128,000 for each token would cost more than it."""
GREEDY_BELOW = 1e-3
"""Temperatures under this take the likeliest token."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one reply's tokens are drawn.

    Attributes:
        temperature: By which logits are divided; 0 takes the likeliest token always.
        top_p: Only the likeliest tokens that together reach this probability are drawn.
        top_k: Only so many; 0 for no limit of its own.
        seed: The same one gives the same reply; None a new one each time.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None

    @property
    def greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature < GREEDY_BELOW or self.top_k == 1


@dataclass
class Chance:
    """A reply's sampling and its own source of chance, so that replies don't depend on who shares their batch."""

    sampling: Sampling
    source: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.source = random.Random(self.sampling.seed)  # noqa: S311 - not for secrets


def draw(logits: Tensor, chances: Sequence[Chance]) -> list[int | None]:
    """The next token of each row.

    Args:
        logits: Shape (rows, vocabulary).
        chances: One for each row.

    Returns:
        Tokens; None for a row whose numbers overflowed.
    """
    best, likeliest = logits.max(1)
    tokens = torch.where(best.isfinite(), likeliest, -1)
    drawn = [row for row, chance in enumerate(chances) if not chance.sampling.greedy]
    if drawn:
        tokens[drawn] = torch.where(
            best[drawn].isfinite(), _sampled(logits[drawn], [chances[row] for row in drawn]), -1
        )
    return [token if token >= 0 else None for token in tokens.tolist()]


def _sampled(logits: Tensor, chances: Sequence[Chance]) -> Tensor:
    wanted = torch.tensor(
        [
            [one.sampling.temperature, one.sampling.top_p, one.sampling.top_k or CANDIDATES, one.source.random()]
            for one in chances
        ],
        device=logits.device,
    )
    temperature, top_p, top_k, chance = wanted[:, :, None].unbind(1)
    found, tokens = (logits.float() / temperature).topk(min(CANDIDATES, logits.shape[1]))
    ranks = torch.arange(found.shape[1], device=logits.device)
    shares = found.masked_fill(ranks >= top_k, -torch.inf).softmax(1)
    shares = shares.where(shares.cumsum(1) - shares < top_p, 0)
    reached = shares.cumsum(1)
    # A row of overflowed numbers has no share anywhere; what it draws isn't used.
    last = (shares > 0).sum(1, keepdim=True).sub(1).clamp(min=0)
    choice = torch.minimum((reached <= chance * reached[:, -1:]).sum(1, keepdim=True), last)
    return tokens.gather(1, choice).squeeze(1)
