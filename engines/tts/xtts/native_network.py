"""The GPT's transformer by own kernels: the whole of a step, or of a prompt, is one call.

It does what `Network` does, with the same names. What it has over torch on a CPU is that memory is read
at its own speed, that each stream attends to no more than its own length, and that nothing lies between layers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engines.tts.xtts.coqui import Affine, Transformer
from engines.tts.xtts.errors import BrokenStream
from engines.tts.xtts.native import Library, advise_huge
from engines.tts.xtts.network import Prefix, Stepped

_BLOCK = 48
"""Outputs whose weights lie together."""
_TURNED = 16
"""Positions whose keys lie together."""


class _Linear(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weights", "scales", "offsets", "bias")),
        *((name, ctypes.c_int32) for name in ("inputs", "outputs", "blocks")),
    ]


class _Norm(ctypes.Structure):
    _fields_ = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p)]


class _Layer(ctypes.Structure):
    _fields_ = [
        ("attention_norm", _Norm),
        ("qkv", _Linear),
        ("attention_out", _Linear),
        ("mlp_norm", _Norm),
        ("up", _Linear),
        ("down", _Linear),
    ]


class _Gpt(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.POINTER(_Layer)),
        ("last_norm", _Norm),
        ("final_norm", _Norm),
        ("head", _Linear),
        ("cache", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("count", "width", "heads", "streams", "positions", "quantised")),
        ("epsilon", ctypes.c_float),
    ]


class _Scratch(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("qkv", "mixed", "raised", "quants", "steps", "weights")]


class NativeNetwork:
    """The transformer and the caches of `rows` streams; see `Network`.

    Args:
        weights: Coqui's, on the CPU.
        kernels: The compiled ones.
        rows: How many streams the cache holds.
        quantised: Weights in int8, activations quantised to int8 as they come, the cache in float16; else all float32.
    """

    def __init__(self, weights: Transformer, kernels: Library, rows: int, quantised: bool) -> None:
        self._run = kernels.functions.xtts_gpt
        self._run.restype = None
        self._start_text, self._stop_text = weights.start_text, weights.stop_text
        self._text_embedding, self._text_positions = weights.text_embedding, weights.text_positions
        self._code_embedding, self._code_positions = weights.code_embedding, weights.code_positions
        self._width = width = weights.code_embedding.shape[1]
        self._size = width // weights.heads
        self._codes_known = len(weights.head.bias)
        self.most_positions = 32 + weights.most_text + 2 + weights.most_codes
        self._positions = -(-self.most_positions // _TURNED) * _TURNED
        self._kept: list[Tensor] = []
        arena = _Arena(sum(_packed_bytes(linear, quantised) for linear in _linears(weights)))

        def linear(affine: Affine) -> _Linear:
            return self._linear(affine, arena, quantised)

        layers = (_Layer * len(weights.blocks))(
            *(
                _Layer(
                    self._norm(block.attention_norm),
                    linear(block.qkv),
                    linear(block.attention_out),
                    self._norm(block.mlp_norm),
                    linear(block.up),
                    linear(block.down),
                )
                for block in weights.blocks
            )
        )
        shape = (len(layers), 2, rows, weights.heads, self._positions * self._size)
        # NumPy's zeros, not torch's: memory is taken as positions are written, not for the longest speech of all rows.
        self._cache = torch.from_numpy(np.zeros(shape, np.float16 if quantised else np.float32))
        self._gpt = _Gpt(
            layers,
            self._norm(weights.last_norm),
            self._norm(weights.final_norm),
            linear(weights.head),
            self._cache.data_ptr(),
            len(layers),
            width,
            weights.heads,
            rows,
            self._positions,
            quantised,
            weights.epsilon,
        )
        self._kept.append(arena.memory)
        self._scratch, self._room, self._threads = _Scratch(), 0, 0
        self.codes = torch.zeros(rows, dtype=torch.long)
        self.made = torch.zeros_like(self.codes)
        self.length = torch.zeros_like(self.codes)
        self._streams = torch.arange(rows, dtype=torch.int32)

    def step(self, rows: int, reach: int) -> Stepped:
        """Compute one position for each of the first `rows` rows; see `Network.step`."""
        state = functional.embedding(self.codes[:rows], self._code_embedding)
        state = state + functional.embedding(self.made[:rows], self._code_positions)
        logits = torch.empty(rows, self._codes_known)
        self._call(self._streams[:rows], self.length[:rows].int(), state, logits)
        return Stepped(state, logits)

    def prefix(self, row: int, latents: Tensor) -> Prefix:
        """The keys and values of conditioning latents (32, d); see `Network.prefix`."""
        self._extend(row, 0, latents.float().clone())
        return Prefix(self._cache[:, :, row, :, : len(latents) * self._size].clone())

    def fill(self, row: int, prefix: Prefix, text: Tensor, start: int) -> None:
        """Put a prompt into a row, so that the next step makes its first code; see `Network.fill`."""
        ids = functional.pad(text, (1, 0), value=self._start_text)
        ids = functional.pad(ids, (0, 1), value=self._stop_text)
        before = prefix.cache.shape[3]
        self._cache[:, :, row, :, :before] = prefix.cache
        state = functional.embedding(ids, self._text_embedding) + self._text_positions[: len(ids)]
        self._extend(row, before // self._size, state)
        self.codes[row] = start
        self.made[row] = 0
        self.length[row] = before // self._size + len(ids)

    def move(self, source: int, target: int, length: int) -> None:
        """Let a row's stream, `length` positions long, go on in another row."""
        numbers = -(-length // _TURNED) * _TURNED * self._size
        self._cache[:, :, target, :, :numbers] = self._cache[:, :, source, :, :numbers]
        for inputs in (self.codes, self.made, self.length):
            inputs[target] = inputs[source]

    def clear(self, row: int) -> None:
        """Nothing: no position is read that its own stream hasn't written."""

    def release(self, row: int) -> None:
        """Nothing: only rows with streams are computed."""

    def _extend(self, row: int, start: int, state: Tensor) -> None:
        rows = len(state)
        positions = torch.arange(start, start + rows, dtype=torch.int32)
        self._call(torch.full((rows,), row, dtype=torch.int32), positions, state.contiguous(), None)
        values = self._cache[-1, 1, row, :, start * self._size : (start + rows) * self._size]
        if not values.isfinite().all():  # whatever overflowed before shows up there
            raise BrokenStream("XTTS's numbers overflow with this voice; make its latents anew or use float32.")

    def _call(self, streams: Tensor, positions: Tensor, state: Tensor, logits: Tensor | None) -> None:
        rows, threads = len(state), torch.get_num_threads()
        if rows > self._room or threads > self._threads:
            self._make_room(max(rows, self._room), threads)
        self._run(
            ctypes.byref(self._gpt),
            rows,
            ctypes.c_void_p(streams.data_ptr()),
            ctypes.c_void_p(positions.data_ptr()),
            ctypes.c_void_p(state.data_ptr()),
            ctypes.c_void_p(logits.data_ptr() if logits is not None else None),
            ctypes.byref(self._scratch),
            threads,
        )

    def _make_room(self, rows: int, threads: int) -> None:
        width = self._width
        shapes = [3 * width, width, 4 * width, 4 * width, 1]
        parts = [
            torch.empty(rows, size, dtype=torch.uint8 if at == 3 else torch.float32) for at, size in enumerate(shapes)
        ]
        self._held = [*parts, torch.empty(threads, self._positions)]
        self._scratch = _Scratch(*(part.data_ptr() for part in self._held))
        self._room, self._threads = rows, threads

    def _norm(self, norm: Affine) -> _Norm:
        return _Norm(self._keep(norm.weight), self._keep(norm.bias))

    def _linear(self, linear: Affine, arena: _Arena, quantised: bool) -> _Linear:
        outputs, inputs = linear.weight.shape
        blocks = -(-outputs // _BLOCK)
        beyond = blocks * _BLOCK - outputs
        weight, bias = functional.pad(linear.weight, (0, 0, 0, beyond)), functional.pad(linear.bias, (0, beyond))
        scales, offsets = 0, 0
        if quantised:
            steps = weight.abs().amax(1).clamp(min=1e-12) / 127
            whole = (weight / steps[:, None]).round_().to(torch.int8)
            packed = whole.view(blocks, _BLOCK, inputs // 4, 4).permute(0, 2, 1, 3)
            scales, offsets = self._keep(steps), self._keep(128 * whole.sum(1, dtype=torch.int32))
        else:
            packed = weight.view(blocks, _BLOCK, inputs).permute(0, 2, 1)
        return _Linear(arena.put(packed), scales, offsets, self._keep(bias), inputs, outputs, blocks)

    def _keep(self, tensor: Tensor) -> int:
        kept = tensor.contiguous()
        self._kept.append(kept)
        return kept.data_ptr()


class _Arena:
    """One stretch of memory for all weights, in the order in which they are read."""

    def __init__(self, size: int) -> None:
        self.memory = torch.empty(size + 64, dtype=torch.uint8)
        advise_huge(self.memory)
        self._next = -self.memory.data_ptr() % 64

    def put(self, tensor: Tensor) -> int:
        place = self.memory[self._next : self._next + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        place.copy_(tensor)
        self._next += tensor.nbytes
        return place.data_ptr()


def _linears(weights: Transformer) -> Iterator[Affine]:
    for block in weights.blocks:
        yield from (block.qkv, block.attention_out, block.up, block.down)
    yield weights.head


def _packed_bytes(linear: Affine, quantised: bool) -> int:
    outputs, inputs = linear.weight.shape
    return -(-outputs // _BLOCK) * _BLOCK * inputs * (1 if quantised else 4)
