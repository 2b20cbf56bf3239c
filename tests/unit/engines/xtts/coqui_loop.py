"""Coqui's own ways from text ids to codes and latents, to be compared with ours."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.sampling import Sampling


def voice(checkpoint: Checkpoint, name: str) -> Latents:
    """One of the checkpoint's own speakers."""
    return Latents(*checkpoint.speakers[name], checkpoint.fingerprint)


@torch.inference_mode()
def streamed(
    checkpoint: Checkpoint, ids: Sequence[int], latents: Latents, sampling: Sampling, most: int | None = None
) -> tuple[list[int], Tensor]:
    """Codes and latents (n, d) as `inference_stream` gets them."""
    gpt: Any = checkpoint.gpt
    steps = gpt.get_generator(
        fake_inputs=gpt.compute_embeddings(latents.gpt[None], torch.tensor([ids])),
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        temperature=sampling.temperature,
        repetition_penalty=sampling.repetition_penalty,
        do_sample=True,
        num_beams=1,
        num_return_sequences=1,
        length_penalty=1.0,
        output_attentions=False,
        output_hidden_states=True,
        return_dict_in_generate=True,
    )
    codes, states = zip(*islice(steps, most), strict=True)
    return [int(code) for code in codes], torch.cat(states)


@torch.inference_mode()
def second_pass(checkpoint: Checkpoint, ids: Sequence[int], latents: Latents, codes: Sequence[int]) -> Tensor:
    """Latents (n, d) as `inference` computes them from all codes at once."""
    gpt: Any = checkpoint.gpt
    passed: Tensor = gpt(
        torch.tensor([ids]),
        torch.tensor([len(ids)]),
        torch.tensor([codes]),
        torch.tensor([len(codes) * gpt.code_stride_len]),
        cond_latents=latents.gpt[None],
        return_latent=True,
    )
    return passed[0]
