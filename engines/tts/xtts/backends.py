"""How XTTS is computed: the backends by name, and which one a setting means on a device.

`torch`: plain library calls, on any device. `native`: own kernels for processors with AVX-512 VNNI (see `native`).
`graphs`: CUDA graphs, which spare a GPU the time between small kernels. `auto` takes the best that there is.

Precisions: `fp32` is coqui's; `int8` rounds weights once and activations as they come (processors only); `fp16` and
`bf16` are for GPUs. `auto` is exact on a processor, where int8 is several times faster but must be asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from engines.tts.xtts.coqui import Transformer
from engines.tts.xtts.errors import NoSuchBackend
from engines.tts.xtts.native import Library, library, processor
from engines.tts.xtts.native_network import NativeNetwork
from engines.tts.xtts.native_vocoder import NativeVocoder
from engines.tts.xtts.network import AnyNetwork, Backend, Exact, Linear, Step, Stepped
from engines.tts.xtts.vocoder import Vocoder
from engines.types import EngineUnavailable

logger = logging.getLogger("voice_node.xtts")

BACKENDS = ("auto", "torch", "native", "graphs", "deepspeed")
PRECISIONS = ("auto", "fp32", "int8", "fp16", "bf16")

_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}

_REACH = 128
"""Positions by which the buckets of CUDA graphs grow: attention over unused ones costs less than another graph."""


class Quantised(Exact):
    """Int8 by torch's own kernels: weights rounded per output, activations as they come."""

    precision = "int8"

    def linear(self, weight: Tensor, bias: Tensor) -> Linear:
        """Int8 inside, float32 outside."""
        scales = weight.abs().amax(1).clamp(min=1e-12).double() / 127
        zeros = torch.zeros(len(scales), dtype=torch.long)
        rounded = torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(rounded, bias)
        multiply: Callable[[Tensor, Any], Tensor] = torch.ops.quantized.linear_dynamic
        return lambda given: multiply(given, packed)


class Native(Exact):
    """Own kernels.

    Args:
        kernels: The compiled ones.
        quantised: Int8 for the transformer and bfloat16 for the vocoder's products, else float32 for all.
    """

    def __init__(self, kernels: Library, quantised: bool) -> None:
        super().__init__("cpu")
        self.kernels = kernels
        self.quantised = quantised
        self.precision = "int8" if quantised else "fp32"

    def network(self, weights: Transformer, rows: int) -> AnyNetwork:
        """The transformer by own kernels, where its heads are whole vectors wide."""
        if len(weights.head.weight[0]) // weights.heads % 16:
            return (Quantised() if self.quantised else Exact()).network(weights, rows)
        return NativeNetwork(weights, self.kernels, rows, self.quantised)


class Graphs(Exact):
    """One CUDA graph for each number of rows and positions that steps are rounded up to.

    Args:
        device: A GPU; on a processor the same is computed without graphs.
        dtype: Numbers of activations, weights and cache.
    """

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        super().__init__(device)
        self.dtype = dtype
        self.precision = _NAMES[dtype]

    def linear(self, weight: Tensor, bias: Tensor) -> Linear:
        """In the backend's precision."""
        return super().linear(weight.to(self.dtype).contiguous(), bias.to(self.dtype))

    def bucket(self, rows: int, reach: int) -> tuple[int, int]:
        """The next power of two of rows, the next multiple of 128 positions."""
        return 1 << (rows - 1).bit_length(), -(-reach // _REACH) * _REACH

    def stepping(self, step: Step) -> Step:
        """Steps by graphs, each captured when it is first needed."""
        return _Captured(step) if self.device.type == "cuda" else step


class _Captured:
    def __init__(self, step: Step) -> None:
        self._step = step
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Stepped]] = {}

    def __call__(self, rows: int, reach: int) -> Stepped:
        kept = self._graphs.get((rows, reach))
        if kept is None:
            kept = self._graphs[rows, reach] = self._capture(rows, reach)
        graph, stepped = kept
        graph.replay()
        return stepped

    def _capture(self, rows: int, reach: int) -> tuple[torch.cuda.CUDAGraph, Stepped]:
        side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # Libraries set themselves up in their first calls, which no graph may hold.
            for _ in range(3):
                self._step(rows, reach)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            stepped = self._step(rows, reach)
        return graph, stepped


def choose(backend: str = "auto", precision: str = "auto", device: str = "cpu") -> Backend:
    """The backend that the settings XTTS_BACKEND and XTTS_PRECISION mean on a device.

    May compile the own kernels, which takes seconds: call it off the event loop.

    Raises:
        NoSuchBackend: There is none of that name, or it doesn't go with the precision or the device.
        EngineUnavailable: It was asked for by name, and can't be had here.
    """
    if backend not in BACKENDS or precision not in PRECISIONS:
        raise NoSuchBackend(f"XTTS_BACKEND is one of {', '.join(BACKENDS)}, XTTS_PRECISION of {', '.join(PRECISIONS)}.")
    if backend == "deepspeed":
        raise NoSuchBackend(
            "DeepSpeed's kernels run on a GPU only and keep a cache of their own, for one stream, which transformers 5"
            " can't follow. Set XTTS_BACKEND=graphs, which takes its place."
        )
    if device.startswith("cuda"):
        return _on_gpu(backend, precision, device)
    if precision in ("fp16", "bf16") or backend == "graphs":
        raise NoSuchBackend("fp16, bf16 and CUDA graphs need a GPU. Set XTTS_PRECISION to fp32 or int8.")
    quantised = precision == "int8"
    if backend in ("auto", "native"):
        try:
            return Native(library(), quantised)
        except EngineUnavailable as error:
            if backend == "native":
                raise
            logger.info("XTTS is computed by torch", extra={"reason": error.message})
    return Quantised(device) if quantised else Exact(device)


def vocoder(decoder: Any, backend: Backend) -> Vocoder:
    """The vocoder that goes with a backend, of coqui's `HifiDecoder`."""
    if isinstance(backend, Native) and NativeVocoder.fits(decoder):
        return NativeVocoder(decoder, backend.kernels, halved=backend.quantised)
    halved = isinstance(backend, Quantised) and "avx512_bf16" in processor()
    return Vocoder(decoder, torch.bfloat16 if halved else torch.float32)


def _on_gpu(backend: str, precision: str, device: str) -> Backend:
    if backend == "native" or precision == "int8":
        raise NoSuchBackend("int8 and the own kernels are for processors. Set XTTS_DEVICE=cpu, or another precision.")
    if backend == "torch":
        if precision not in ("auto", "fp32"):
            raise NoSuchBackend("XTTS_BACKEND=torch computes in fp32. Set XTTS_BACKEND=graphs for fp16 and bf16.")
        return Exact(device)
    return Graphs(device, {"fp32": torch.float32, "bf16": torch.bfloat16}.get(precision, torch.float16))
