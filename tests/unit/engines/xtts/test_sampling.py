"""Codes are drawn as transformers, which coqui uses, would draw them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.errors import BadSampling
from engines.tts.xtts.sampling import Sampler, Sampling

CODES, START, STOP = 1026, 1024, 1025
TRIES = 4000


def sampler(rows: int) -> Sampler:
    return Sampler(rows, CODES, START, STOP, most=4, device=torch.device("cpu"))


def logits(spread: float = 3.0) -> Tensor:
    return torch.randn(1, CODES, generator=torch.Generator().manual_seed(4)) * spread


def expected(given: Tensor, sampling: Sampling, past: list[int]) -> Tensor:
    """The probabilities that transformers draws from, shape (CODES,)."""
    steps = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)])
    steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    steps.append(TopPLogitsWarper(sampling.top_p))
    weighed: Tensor = steps(torch.tensor([[1, 1, START, *past]]), given)
    return weighed.softmax(1)[0]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.3, top_k=8, top_p=0.5, repetition_penalty=2.0),
        Sampling(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0),
        Sampling(temperature=1.4, top_k=3, top_p=0.99, repetition_penalty=10.0),
        Sampling(top_k=1),
    ],
)
def test_codes_come_as_often_as_transformers_would_draw_them(sampling: Sampling) -> None:
    drawing = sampler(TRIES)
    for row in range(TRIES):
        drawing.join(
            row, Sampling(sampling.temperature, sampling.top_k, sampling.top_p, sampling.repetition_penalty, row)
        )
    made = torch.zeros(TRIES, dtype=torch.long)
    first = drawing.draw(logits().expand(TRIES, CODES), made).code
    wanted = expected(logits(), sampling, [])
    assert set(first.tolist()) <= set(wanted.nonzero().flatten().tolist())
    often = first.bincount(minlength=CODES) / TRIES
    assert (often - wanted).abs().max() < 0.03
    second = drawing.draw(logits().expand(TRIES, CODES), made + 1).code
    before = int(first[0])
    after = expected(logits(), sampling, [before]).nonzero().flatten()
    assert set(second[first == before].tolist()) <= set(after.tolist())


@pytest.mark.parametrize("code", [1, START])
def test_coquis_placeholders_are_penalised_from_the_start(code: int) -> None:
    given = torch.zeros(1, CODES)
    given[0, code], given[0, 500] = 10, 9
    drawing = sampler(1)
    drawing.join(0, Sampling(top_k=1))
    assert drawing.draw(given, torch.zeros(1, dtype=torch.long)).code.tolist() == [500]


def test_a_code_loses_by_having_been_drawn() -> None:
    given = torch.zeros(1, CODES)
    given[0, 500], given[0, 600] = 10, 9
    drawing = sampler(1)
    drawing.join(0, Sampling(top_k=1))
    codes = [drawing.draw(given, torch.tensor([step])).code.item() for step in range(3)]
    assert codes == [500, 600, 500]


def test_a_row_starts_afresh_with_each_stream() -> None:
    given = torch.zeros(1, CODES)
    given[0, 500], given[0, 600] = 10, 9
    drawing = sampler(1)
    for _ in range(2):
        drawing.join(0, Sampling(top_k=1))
        assert drawing.draw(given, torch.zeros(1, dtype=torch.long)).code.tolist() == [500]


def test_codes_that_are_likely_alike_are_drawn_the_same_whichever_leads_by_a_last_digit() -> None:
    given = torch.full((2, CODES), -20.0)
    given[:, 500] = given[:, 600] = 3
    given[0, 500] += 1e-6
    given[1, 600] += 1e-6
    drawing = sampler(2)
    for seed in range(20):
        drawing.join(0, Sampling(seed=seed))
        drawing.join(1, Sampling(seed=seed))
        first, second = drawing.draw(given, torch.zeros(2, dtype=torch.long)).code.tolist()
        assert first == second


def test_the_stop_codes_rank_and_probability_are_the_networks_own() -> None:
    given = torch.zeros(1, CODES)
    given[0, STOP], given[0, 7], given[0, 8] = 5, 6, 7
    drawing = sampler(1)
    drawing.join(0, Sampling(temperature=0.1, top_k=1))
    drawn = drawing.draw(given, torch.zeros(1, dtype=torch.long))
    assert drawn.stop_rank.tolist() == [2]
    assert drawn.stop_probability.item() == pytest.approx(given.softmax(1)[0, STOP].item())


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}, {"repetition_penalty": 0}]
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(BadSampling):
        Sampling(**wrong)


def test_a_checkpoints_own_settings_are_the_default(base: Checkpoint) -> None:
    assert Sampling.of(base.config) == Sampling(0.75, 50, 0.85, 5.0)
