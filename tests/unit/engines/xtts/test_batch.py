"""The batch makes coqui's codes and latents, whoever shares it."""

from __future__ import annotations

import torch

from engines.tts.xtts.batch import Batch, Made
from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.network import Exact
from engines.tts.xtts.sampling import Sampling
from tests.unit.engines.xtts.coqui_loop import second_pass, streamed, voice

LIKELIEST = Sampling(top_k=1)


def run(batch: Batch, streams: dict[int, list[Made]], steps: int = 1000) -> None:
    """Step until all have left, or so often, and sort what was made by stream."""
    for _ in range(steps):
        made = batch.step()
        if not made:
            return
        for one in made:
            streams[one.slot].append(one)


def codes(made: list[Made]) -> list[int]:
    return [one.code for one in made]


def states(made: list[Made]) -> torch.Tensor:
    return torch.stack([one.latent for one in made])


def test_a_stream_alone_makes_the_codes_and_latents_of_coquis_both_ways(base: Checkpoint) -> None:
    ids, ada = base.tokenizer.encode("Hello there, the rain in Spain.", "en"), voice(base, "Small Ada")
    batch = Batch(base, Exact(), 1)
    made: dict[int, list[Made]] = {batch.join(ids, ada, LIKELIEST): []}
    run(batch, made)
    [ours] = made.values()
    expected, latents = streamed(base, ids, ada, LIKELIEST)
    assert codes(ours) == expected
    assert len(expected) == 91
    assert [one.stop for one in ours] == [False] * 90 + [True]
    assert (states(ours) - latents).abs().max() < 1e-4
    assert (states(ours) - second_pass(base, ids, ada, expected)).abs().max() < 1e-4
