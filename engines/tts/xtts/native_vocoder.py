"""The streaming vocoder by own kernels; in bfloat16 where the processor multiplies that and the precision allows it.

What it has over torch on a CPU: rectifiers, biases and residuals cost no passes of their own over memory, and bfloat16
halves the work of the convolutions, while what is added up between them stays float32.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.tts.xtts.native import Library
from engines.tts.xtts.vocoder import SpeechWindow, Vocoder
from engines.types import Audio

_TAIL = 64
"""Frames' worth of samples that the layers may hold back until a stream ends, and more."""


class _Convolution(ctypes.Structure):
    _fields_ = [
        ("weights", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("inputs", "outputs", "taps", "dilation")),
    ]


class _Stage(ctypes.Structure):
    _fields_ = [
        ("spread", _Convolution),
        ("pairs", ctypes.POINTER(_Convolution)),
        *((name, ctypes.c_int32) for name in ("factor", "trim", "channels")),
    ]


class _Layers(ctypes.Structure):
    _fields_ = [
        ("first", _Convolution),
        ("stages", ctypes.POINTER(_Stage)),
        ("last", _Convolution),
        *((name, ctypes.c_int32) for name in ("count", "blocks", "depth", "halved")),
    ]


@dataclass
class _Stream:
    handle: ctypes.c_void_p
    shades: Any
    ended: bool = False


class NativeVocoder(Vocoder):
    """Coqui's HiFi-GAN, for streams; see `Vocoder`.

    Args:
        decoder: Coqui's `HifiDecoder`, on the CPU.
        kernels: The compiled ones.
        halved: Whether to multiply in bfloat16.

    Raises:
        ValueError: The decoder is of another structure than XTTS's.
    """

    def __init__(self, decoder: Any, kernels: Library, halved: bool) -> None:
        super().__init__(decoder)
        self._functions = kernels.functions
        self._functions.xtts_stream.restype = ctypes.c_void_p
        self._halved = halved and kernels.bfloat16
        self._held: list[Any] = []
        stages = (_Stage * len(self._stages))(
            *(
                _Stage(
                    self._packed(stage.spread),
                    self._array(
                        [self._packed(one) for residual in stage.residuals for pair in residual.pairs for one in pair]
                    ),
                    stage.factor,
                    stage.trim,
                    stage.residuals[0].pairs[0][0].weight.shape[0],
                )
                for stage in self._stages
            )
        )
        residuals = self._stages[0].residuals
        last = self._last.weight[0, :, 0].t().contiguous()
        self._layers = _Layers(
            self._packed(self._first),
            stages,
            _Convolution(self._address(last), None, last.shape[1], 1, last.shape[0], 1),
            len(stages),
            len(residuals),
            len(residuals[0].pairs),
            self._halved,
        )
        self._factor = prod(stage.factor for stage in self._stages)
        self._streams: weakref.WeakKeyDictionary[SpeechWindow, _Stream] = weakref.WeakKeyDictionary()

    @staticmethod
    def fits(decoder: Any) -> bool:
        """Whether the kernels can have a decoder: its narrowest stage needs whole vectors."""
        return all(block.convs1[0].weight.shape[0] % 16 == 0 for block in decoder.waveform_decoder.resblocks)

    @torch.inference_mode()
    def decode(self, jobs: Sequence[tuple[SpeechWindow, bool]]) -> list[Audio]:
        """Each stream's next finished samples; see `Vocoder.decode`."""
        return [self._next(window, last) for window, last in jobs]

    def _next(self, window: SpeechWindow, last: bool) -> Audio:
        self._stretch(window, last)
        stream = self._streams.get(window) or self._begun(window)
        frames = window.take(window.waiting) if window.frames else torch.empty(0)
        if stream.ended or not (len(frames) or last):
            return np.zeros(0, np.float32)
        stream.ended = last
        made = np.empty((len(frames) + _TAIL) * self._factor, np.float32)
        samples = self._functions.xtts_push(
            ctypes.byref(self._layers),
            stream.handle,
            ctypes.c_void_p(frames.data_ptr()),
            len(frames),
            stream.shades,
            last,
            made.ctypes.data_as(ctypes.c_void_p),
            torch.get_num_threads(),
        )
        return made[:samples]

    def _begun(self, window: SpeechWindow) -> _Stream:
        window.shades = [shade.float().contiguous() for shade in window.shades]
        addresses = (ctypes.c_void_p * len(window.shades))(*(shade.data_ptr() for shade in window.shades))
        layers, end = self._layers, self._functions.xtts_end_stream
        handle = ctypes.c_void_p(self._functions.xtts_stream(ctypes.byref(layers)))
        weakref.finalize(window, lambda: end(ctypes.byref(layers), handle))
        stream = self._streams[window] = _Stream(handle, addresses)
        return stream

    def _packed(self, layer: Any) -> _Convolution:
        weight: Tensor = layer.weight.squeeze(2).float()
        outputs, inputs, taps = weight.shape
        width = next(width for width in (64, 32, 16) if outputs % width == 0)
        step = 2 if self._halved else 1
        blocks = weight.reshape(outputs // width, width, inputs // step, step, taps).permute(0, 4, 2, 1, 3)
        packed = blocks.to(torch.bfloat16 if self._halved else torch.float32).contiguous()
        bias = None if layer.bias is None else self._address(layer.bias.float().contiguous())
        return _Convolution(self._address(packed), bias, inputs, outputs, taps, layer.dilation[1])

    def _address(self, tensor: Tensor) -> int:
        self._held.append(tensor)
        return tensor.data_ptr()

    def _array(self, layers: list[_Convolution]) -> Any:
        array = (_Convolution * len(layers))(*layers)
        self._held.append(array)
        return array
