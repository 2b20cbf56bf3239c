"""The GPT's transformer over a static key-value cache: prompts of any length in, one position a step for all rows.

Coqui's network is a GPT-2: 32 conditioning latents without a position, the text with positions of its own, then the
codes with theirs. Each row holds one stream; its cache is filled from position 0 on without gaps, whatever the others'
lengths. A step reads inputs from static tensors and writes the cache in place, so that it can be captured as a CUDA
graph; how much of the cache it attends to is an argument, so that short streams don't pay for the longest possible.

Which linear layers, numbers and device are used is the `Backend`'s business.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from engines.tts.xtts.coqui import Affine, Block, Transformer
from engines.tts.xtts.errors import BrokenStream

Linear: TypeAlias = Callable[[Tensor], Tensor]
"""A linear layer: (..., in) to (..., out)."""


class Stepped(NamedTuple):
    """What a step gives for each row, float32.

    `latent` (rows, d) is what the vocoder takes; `logits` (rows, codes) are the next code's.
    """

    latent: Tensor
    logits: Tensor


Step: TypeAlias = Callable[[int, int], Stepped]
"""A step for the first `rows` rows over the first `reach` positions of the cache."""


class Backend(Protocol):
    """How the transformer is computed.

    Attributes:
        device: Where.
        dtype: Numbers of activations and cache.
        precision: The setting's word for it.
    """

    precision: str
    device: torch.device
    dtype: torch.dtype

    def linear(self, weight: Tensor, bias: Tensor) -> Linear:
        """A linear layer from a float32 weight (out, in), of any strides, and a bias (out,)."""
        ...

    def bucket(self, rows: int, reach: int) -> tuple[int, int]:
        """How many rows and positions a step should compute, at least those asked for; the network caps both."""
        ...

    def stepping(self, step: Step) -> Step:
        """The step, or something faster that does the same: all its inputs and outputs but two are static tensors."""
        ...

    def network(self, weights: Transformer, rows: int) -> AnyNetwork:
        """The transformer with caches for `rows` streams."""
        ...


class Exact:
    """The backend that computes as coqui does: float32, plain library calls."""

    dtype = torch.float32
    precision = "fp32"

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)

    def linear(self, weight: Tensor, bias: Tensor) -> Linear:
        """Float32."""
        weight, bias = weight.to(self.device), bias.to(self.device)
        return lambda given: functional.linear(given, weight, bias)

    def bucket(self, rows: int, reach: int) -> tuple[int, int]:
        """Nothing beyond what is asked for."""
        return rows, reach

    def stepping(self, step: Step) -> Step:
        """As it is."""
        return step

    def network(self, weights: Transformer, rows: int) -> AnyNetwork:
        """This file's."""
        return Network(weights, self, rows)


@dataclass(frozen=True)
class Prefix:
    """A voice's keys and values at the 32 positions before every prompt, shape (layers, 2, heads, 32, d / heads)."""

    cache: Tensor


class AnyNetwork(Protocol):
    """What a batch needs of a network; see `Network` for what each does."""

    codes: Tensor
    made: Tensor
    length: Tensor

    def step(self, rows: int, reach: int) -> Stepped: ...  # noqa: D102

    def prefix(self, row: int, latents: Tensor) -> Prefix: ...  # noqa: D102

    def fill(self, row: int, prefix: Prefix, text: Tensor, start: int) -> None: ...  # noqa: D102

    def move(self, source: int, target: int, length: int) -> None: ...  # noqa: D102

    def clear(self, row: int) -> None: ...  # noqa: D102

    def release(self, row: int) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class _Layer:
    attention_norm: Affine
    qkv: Linear
    attention_out: Linear
    mlp_norm: Affine
    up: Linear
    down: Linear


class Network:
    """The transformer and the caches of `rows` streams.

    `codes`, `made` and `length` are a step's static inputs, one number a row: the code at the next position, how many
    codes came before it (its position among the codes), and how many positions the row's cache holds.

    Args:
        weights: Coqui's.
        backend: How to compute.
        rows: How many streams the cache holds.
    """

    def __init__(self, weights: Transformer, backend: Backend, rows: int) -> None:
        self._backend = backend
        self._heads = weights.heads
        self._epsilon = weights.epsilon
        self._start_text, self._stop_text = weights.start_text, weights.stop_text
        width = weights.code_embedding.shape[1]
        self._text_embedding = self._placed(weights.text_embedding)
        self._text_positions = self._placed(weights.text_positions)
        self._code_embedding = self._placed(weights.code_embedding)
        self._code_positions = self._placed(weights.code_positions)
        self._layers = [self._layer(block) for block in weights.blocks]
        self._last_norm, self._final_norm = self._norm(weights.last_norm), self._norm(weights.final_norm)
        self._head = backend.linear(weights.head.weight, weights.head.bias)
        self.most_positions = 32 + weights.most_text + 2 + weights.most_codes
        shape = (len(self._layers), 2, rows, self._heads, self.most_positions, width // self._heads)
        # Zeros, not leftovers: what isn't attended to is still multiplied, by 0. Memory is taken as it is written.
        self._cache = torch.zeros(shape, dtype=backend.dtype, device=backend.device)
        self._places = torch.arange(self.most_positions, device=backend.device)
        self._rows = torch.arange(rows, device=backend.device)
        self.codes = torch.zeros(rows, dtype=torch.long, device=backend.device)
        self.made = torch.zeros_like(self.codes)
        self.length = torch.zeros_like(self.codes)
        itself: Network = weakref.proxy(self)  # a cycle would keep gigabytes until the garbage collector came by
        self._step = backend.stepping(lambda rows, reach: itself._compute(rows, reach))

    def step(self, rows: int, reach: int) -> Stepped:
        """Compute one position for each of the first `rows` rows; `codes`, `made` and `length` stay as they are.

        Args:
            rows: How many.
            reach: The longest row's length, with this position.
        """
        most_rows, most_reach = self._backend.bucket(rows, reach)
        stepped = self._step(min(most_rows, len(self.codes)), min(most_reach, self.most_positions))
        return Stepped(stepped.latent[:rows], stepped.logits[:rows])

    def prefix(self, row: int, latents: Tensor) -> Prefix:
        """The keys and values of conditioning latents (32, d); an unused row is needed to compute them in.

        Raises:
            BrokenStream: They overflow.
        """
        self._extend(row, 0, latents.to(self._backend.device, self._backend.dtype))
        return Prefix(self._cache[:, :, row, :, : len(latents)].clone())

    def fill(self, row: int, prefix: Prefix, text: Tensor, start: int) -> None:
        """Put a prompt into a row, so that the next step makes its first code.

        Args:
            row: An unused one.
            prefix: The voice's.
            text: Text ids (n,), without start and stop.
            start: The start code.

        Raises:
            BrokenStream: It overflows.
        """
        device = self._backend.device
        ids = functional.pad(text.to(device), (1, 0), value=self._start_text)
        ids = functional.pad(ids, (0, 1), value=self._stop_text)
        before = prefix.cache.shape[3]
        self._cache[:, :, row, :, :before] = prefix.cache
        self._extend(row, before, functional.embedding(ids, self._text_embedding) + self._text_positions[: len(ids)])
        self.codes[row] = start
        self.made[row] = 0
        self.length[row] = before + len(ids)

    def move(self, source: int, target: int, length: int) -> None:
        """Let a row's stream, `length` positions long, go on in another row."""
        self._cache[:, :, target, :, :length] = self._cache[:, :, source, :, :length]
        for numbers in (self.codes, self.made, self.length):
            numbers[target] = numbers[source]

    def clear(self, row: int) -> None:
        """Forget what a row holds: what overflowed there must not meet the next stream."""
        self._cache[:, :, row, :, : self.length[row]] = 0

    def release(self, row: int) -> None:
        """Let a row that no stream uses any more step along harmlessly, should a bucket include it."""
        for numbers in (self.codes, self.made, self.length):
            numbers[row] = 0

    def _compute(self, rows: int, reach: int) -> Stepped:
        at, length = self._rows[:rows], self.length[:rows]
        state = functional.embedding(self.codes[:rows], self._code_embedding)
        state = state + functional.embedding(self.made[:rows], self._code_positions)
        shape = (rows, 3, self._heads, state.shape[1] // self._heads)
        seen = (self._places[:reach] <= length[:, None])[:, None, None]
        mask = torch.zeros(seen.shape, dtype=state.dtype, device=state.device).masked_fill_(~seen, -torch.inf)
        for layer, cache in zip(self._layers, self._cache, strict=True):
            qkv = layer.qkv(self._normed(layer.attention_norm, state)).view(shape)
            query, cache[:, at, :, length] = qkv[:, :1], qkv[:, 1:]
            keys, values = cache[:, :rows, :, :reach]
            mixed = functional.scaled_dot_product_attention(query.transpose(1, 2), keys, values, attn_mask=mask)
            state = self._finished(layer, state, mixed.reshape(rows, -1))
        latent = self._normed(self._final_norm, self._normed(self._last_norm, state))
        return Stepped(latent.float(), self._head(latent).float())

    def _extend(self, row: int, start: int, state: Tensor) -> None:
        """Add positions (n, d) to a row's cache from `start` on; what they would say next isn't asked for."""
        new, end = len(state), start + len(state)
        mask = torch.ones(new, end, dtype=torch.bool, device=state.device).tril(start)
        for layer, cache in zip(self._layers, self._cache[:, :, row], strict=True):
            qkv = layer.qkv(self._normed(layer.attention_norm, state)).view(new, 3, self._heads, -1)
            query, keys, values = qkv.permute(1, 2, 0, 3)
            cache[0, :, start:end] = keys
            cache[1, :, start:end] = values
            if layer is self._layers[-1]:
                break
            keys, values = cache[:, :, :end]
            mixed = functional.scaled_dot_product_attention(query[None], keys[None], values[None], attn_mask=mask)
            state = self._finished(layer, state, mixed[0].transpose(0, 1).reshape(new, -1))
        if not self._cache[-1, :, row, :, start:end].isfinite().all():  # whatever overflowed before shows up there
            self._cache[:, :, row, :, :end] = 0
            raise BrokenStream("XTTS's numbers overflow with this voice; make its latents anew or use float32.")

    def _finished(self, layer: _Layer, state: Tensor, mixed: Tensor) -> Tensor:
        state = state + layer.attention_out(mixed)
        raised = functional.gelu(layer.up(self._normed(layer.mlp_norm, state)), approximate="tanh")
        return state + layer.down(raised)

    def _normed(self, norm: Affine, state: Tensor) -> Tensor:
        return functional.layer_norm(state, norm.bias.shape, norm.weight, norm.bias, self._epsilon)

    def _layer(self, block: Block) -> _Layer:
        linear = self._backend.linear
        return _Layer(
            self._norm(block.attention_norm),
            linear(block.qkv.weight, block.qkv.bias),
            linear(block.attention_out.weight, block.attention_out.bias),
            self._norm(block.mlp_norm),
            linear(block.up.weight, block.up.bias),
            linear(block.down.weight, block.down.bias),
        )

    def _norm(self, norm: Affine) -> Affine:
        return Affine(self._placed(norm.weight), self._placed(norm.bias))

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._backend.device, self._backend.dtype)
