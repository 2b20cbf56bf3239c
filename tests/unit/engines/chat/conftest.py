"""A small Llama with random weights and grouped heads, whose every token depends on all before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from engines.chat.llama.batch import Batch, Made
from engines.chat.llama.loading import assemble
from engines.chat.llama.options import Options
from engines.chat.llama.slots import ATTENTION

END = 2


@dataclass
class Small:
    """The model, and how transformers itself goes on from a prompt."""

    model: Any

    def batch(self, slots: int = 4, kept: int = 0, context: int = 256, gathered: bool = False) -> Batch:
        """A batch over it."""
        batch = assemble(self.model, Options("small", slots=slots, kept=kept), context)
        batch._slots.gathered = gathered
        return batch

    def generated(self, prompt: Sequence[int], tokens: int) -> list[int]:
        """Greedy tokens from scratch, by `generate` with transformers' own attention."""
        self.model.set_attn_implementation("sdpa")
        made = self.model.generate(torch.tensor([list(prompt)]), max_new_tokens=tokens, do_sample=False, pad_token_id=0)
        self.model.set_attn_implementation(ATTENTION)
        ids: list[int] = made[0, len(prompt) :].tolist()
        return ids[:-1] if ids[-1] == END else ids


@pytest.fixture(scope="session")
def small() -> Small:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig(eos_token_id=END)
    return Small(model)


def prompt(length: int, seed: int = 0) -> list[int]:
    """Random tokens."""
    generator = torch.Generator().manual_seed(1000 * length + seed)
    return torch.randint(3, 300, (length,), generator=generator).tolist()


def run(batch: Batch, made: dict[int, list[Made]], piece: int = 16, steps: int = 10_000) -> int:
    """Step until all replies have ended, or so often; gives the tokens of prompts that were read."""
    read = 0
    for _ in range(steps):
        if not batch.decoding + batch.prompting:
            break
        new, tokens = batch.step(piece)
        read += tokens
        for one in new:
            made.setdefault(one.reply, []).append(one)
    return read


def tokens(made: Sequence[Made]) -> list[int]:
    """The tokens among what was made."""
    return [one.token for one in made if one.token is not None]
