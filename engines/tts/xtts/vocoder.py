"""The streaming vocoder: latents in, as they are made; sound out, the same as decoding all of them at once.

Every layer of coqui's HiFi-GAN keeps the few inputs that its next outputs need too, so that nothing is computed
twice, a chunk costs what its own length costs, and chunks fit together without a crossfade. A layer's outputs lag
behind its inputs by half its kernel; at a stream's end zeros follow in every layer, as a whole decode pads it, and
all of the tail comes out. Together the layers lag 13 frames: about 3 codes.

Sequences here are (batch, length, channels): what torch calls channels-last, the layout in which convolutions are
fastest, and in which those of a transposed convolution's outputs that begin at one input are one output with more
channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, groupby
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engines.tts.xtts.errors import OutOfMemory
from engines.tts.xtts.memory import memory_named
from engines.tts.xtts.stretch import Stretch
from engines.types import Audio

_SLOPE = 0.1
"""Of the leaky rectifiers between the layers."""

_LAST_SLOPE = 0.01
"""Of the one before the last layer, where HiFi-GAN takes torch's default."""

_SIMILAR = 2
"""Chunks that differ by so many frames (11 ms each) share a pass; the longer one's rest waits for the next."""


class SpeechWindow:
    """One stream of speech on its way through a `Vocoder`.

    Args:
        speaker: The voice's embedding, shape (512, 1).
    """

    def __init__(self, speaker: Tensor) -> None:
        self.speaker = speaker
        self.shades: list[Tensor] = []
        """What the voice adds in each layer, shape (1, channels)."""
        self.kept: list[Tensor] = []
        """What each layer keeps for its next outputs, in the order of passing; shape (1, length, channels)."""
        self.stretches: tuple[Stretch, ...] = ()
        self.latents: list[Tensor] = []
        self.frames: list[Tensor] = []
        """Frames that wait for the next pass, shapes (n, d)."""
        self.ended = False

    def push(self, latents: Tensor) -> None:
        """Hand over the next latents, shape (n, d); computes nothing."""
        self.latents.append(latents)

    def take(self, frames: int) -> Tensor:
        """The first frames of those that wait, which then wait no longer; shape (frames, d)."""
        waiting = torch.cat(self.frames)
        self.frames = [waiting[frames:]]
        return waiting[:frames]

    def put_back(self, frames: Tensor) -> None:
        """Let frames wait again that couldn't be used."""
        self.frames.insert(0, frames)

    @property
    def waiting(self) -> int:
        """How many frames wait."""
        return sum(map(len, self.frames))


class _Pass:
    """One way through the layers, with what they kept on the way before."""

    def __init__(self, kept: Sequence[Tensor], last: bool) -> None:
        self._before: Iterator[Tensor] | None = iter(kept) if kept else None
        self.kept: list[Tensor] = []
        self.first = not kept
        self.last = last

    def joined(self, new: Tensor, zeros: int) -> Tensor:
        """New inputs behind those kept, or behind zeros where a stream begins; before zeros where it ends."""
        padding = new.new_zeros(len(new), zeros, new.shape[2])
        before = next(self._before) if self._before else padding
        return torch.cat((before, new, padding) if self.last else (before, new), 1)

    def keep(self, inputs: Tensor) -> None:
        """Keep inputs for the next pass: copied, so that those they were cut from can be freed."""
        self.kept.append(inputs.clone())


class _Convolution:
    """A convolution with stride 1.

    Args:
        weight: Shape (out, in, kernel).
        bias: Shape (out,).
        dilation: Inputs from one tap to the next.
        padding: Zeros before a stream's first input and after its last; half the reach where None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int = 1, padding: int | None = None) -> None:
        self.reach = (weight.shape[2] - 1) * dilation
        self.padding = self.reach // 2 if padding is None else padding
        self.weight = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        self.bias = bias
        self.dilation = (1, dilation)

    def join(self, x: Tensor, way: _Pass) -> Tensor:
        """The inputs of the next outputs."""
        joined = way.joined(x, self.padding)
        way.keep(joined[:, joined.shape[1] - self.reach :])
        return joined

    def __call__(self, joined: Tensor) -> Tensor:
        """All outputs that these inputs are enough for."""
        image = joined.to(self.weight.dtype).transpose(1, 2).unsqueeze(2)
        made = functional.conv2d(image, self.weight, self.bias, dilation=self.dilation)
        return made.squeeze(2).transpose(1, 2)


class _Residual:
    """Pairs of convolutions, each pair adding to what it was given."""

    def __init__(self, pairs: Sequence[tuple[_Convolution, _Convolution]]) -> None:
        self.pairs = pairs
        self.lag = sum(first.padding + second.padding for first, second in pairs)

    def __call__(self, x: Tensor, way: _Pass) -> Tensor:
        for first, second in self.pairs:
            inputs = first.join(x, way)
            middle = functional.leaky_relu_(first(functional.leaky_relu(inputs, _SLOPE)), _SLOPE)
            made = second(second.join(middle, way))
            end = inputs.shape[1] - first.padding - (0 if way.last else second.padding)
            x = inputs[:, end - made.shape[1] : end] + made
        return x


class _Stage:
    """More samples of fewer channels: a transposed convolution, then the sum of several residual blocks."""

    def __init__(self, spread: _Convolution, factor: int, trim: int, residuals: Sequence[_Residual]) -> None:
        self.factor = factor
        self.trim = trim
        self.lag = max(residual.lag for residual in residuals)
        self.spread = spread
        self.residuals = residuals

    def __call__(self, x: Tensor, shade: Tensor, way: _Pass) -> Tensor:
        made = self.spread(self.spread.join(functional.leaky_relu(x, _SLOPE), way))
        made = made.reshape(len(made), made.shape[1] * self.factor, -1)
        made = made[:, self.trim if way.first else 0 : made.shape[1] - (self.trim if way.last else 0)] + shade
        sums = [residual(made, way) for residual in self.residuals]
        parts = [way.joined(part, 0) for part in sums]
        ready = min(part.shape[1] for part in parts)
        for part in parts:
            way.keep(part[:, ready:])
        return sum((part[:, :ready] for part in parts[1:]), parts[0][:, :ready])


class Vocoder:
    """coqui's HiFi-GAN, for streams.

    Args:
        decoder: coqui's `HifiDecoder`; its weights are read, with their norms folded in, and it stays as it is.
        dtype: What to convolve in; everything between convolutions stays float32. bfloat16 takes 0.55 times as long on
            a CPU that has it in its instructions, and differs from float32 by 40 dB less than the sound.

    Raises:
        ValueError: The decoder is of another structure than XTTS's.
    """

    def __init__(self, decoder: Any, dtype: torch.dtype = torch.float32) -> None:
        network = decoder.waveform_decoder
        first = network.conv_pre.weight
        self.device: torch.device = first.device

        def own(tensor: Tensor) -> Tensor:
            return tensor.detach().float()

        def convolution(layer: Any, scale: float = 1.0, biased: bool = True) -> _Convolution:
            bias = own(layer.bias).to(dtype) if biased and layer.bias is not None else None
            return _Convolution((own(layer.weight) * scale).to(dtype), bias, layer.dilation[0])

        blocks = network.num_kernels
        self._first = convolution(network.conv_pre, biased=False)
        self._stages: list[_Stage] = []
        for index, transposed in enumerate(network.ups):
            residuals = [
                _Residual(
                    [(convolution(one), convolution(two)) for one, two in zip(block.convs1, block.convs2, strict=True)]
                )
                for block in network.resblocks[index * blocks : (index + 1) * blocks]
            ]
            # The mean of the blocks is left a sum: what comes next is scaled instead.
            weight = (own(transposed.weight) * (1 / blocks if index else 1.0)).to(dtype)
            factor, trim = int(transposed.stride[0]), int(transposed.padding[0])
            self._stages.append(_Stage(_spread(weight, factor, trim), factor, trim, residuals))
        self._last = convolution(network.conv_post, 1 / blocks)
        self._shades = [
            (own(shade.weight)[:, :, 0], own(shade.bias) + own(layer.bias))
            for shade, layer in zip((network.cond_layer, *network.conds), (network.conv_pre, *network.ups), strict=True)
        ]
        self._scales = (
            decoder.ar_mel_length_compression / decoder.output_hop_length,
            decoder.output_sample_rate / decoder.input_sample_rate,
        )
        self.lag = next(frames for frames in count(1) if self._samples(frames) > 0) - 1
        """Frames by which the sound lags behind: a stream's first pass needs more than these."""

    @torch.inference_mode()
    def decode(self, jobs: Sequence[tuple[SpeechWindow, bool]]) -> list[Audio]:
        """Each stream's next finished samples.

        Args:
            jobs: Streams, each at most once, and whether all of a stream's latents have been pushed.

        Returns:
            24 kHz sound per stream; empty where a stream's latents aren't enough for any more yet.

        Raises:
            OutOfMemory: There isn't memory enough even for one stream at a time.
        """
        made: list[Audio] = [np.zeros(0, np.float32)] * len(jobs)
        ready: list[tuple[bool, bool, int, int]] = []
        for place, (window, last) in enumerate(jobs):
            self._stretch(window, last)
            if window.waiting > (0 if window.kept or last else self.lag):
                ready.append((last, not window.kept, window.waiting, place))
        for (last, _), group in groupby(sorted(ready), itemgetter(0, 1)):
            similar: list[tuple[int, int]] = []
            for *_, frames, place in group:
                if similar and frames > similar[0][0] + (0 if last else _SIMILAR):
                    self._together(jobs, similar, last, made)
                    similar = []
                similar.append((frames, place))
            self._together(jobs, similar, last, made)
        return made

    def _together(
        self, jobs: Sequence[tuple[SpeechWindow, bool]], group: list[tuple[int, int]], last: bool, made: list[Audio]
    ) -> None:
        """Take a group through the layers: in one pass, or by halves where memory isn't enough for that."""
        windows = [jobs[place][0] for _, place in group]
        frames = [window.take(group[0][0]) for window in windows]
        try:
            with memory_named():
                sounds = self._pass(windows, torch.stack(frames), last)
        except OutOfMemory:
            for window, taken in zip(windows, frames, strict=True):
                window.put_back(taken)
            if len(group) == 1:
                raise
            self._together(jobs, group[: len(group) // 2], last, made)
            self._together(jobs, group[len(group) // 2 :], last, made)
            return
        for (_, place), audio in zip(group, sounds, strict=True):
            made[place] = audio

    def _stretch(self, window: SpeechWindow, last: bool) -> None:
        """Turn latents into frames."""
        if window.ended:
            return
        window.ended = last
        if not window.stretches:
            window.stretches = tuple(Stretch(scale, copies_short=True) for scale in self._scales)
            speaker = window.speaker.to(self.device, torch.float32).reshape(1, -1)
            window.shades = [functional.linear(speaker, weight, bias) for weight, bias in self._shades]
        if not window.latents:
            return
        frames = torch.cat(window.latents).to(self.device, torch.float32)
        window.latents = [frames.new_empty(0, frames.shape[1])]
        for stretch in window.stretches:
            frames = stretch.push(frames, last)
        window.frames.append(frames)

    def _pass(self, windows: Sequence[SpeechWindow], x: Tensor, last: bool) -> Sequence[Audio]:
        kept = [torch.cat(parts) for parts in zip(*(window.kept for window in windows), strict=True)]
        way = _Pass(kept, last)
        shades = [torch.stack(parts) for parts in zip(*(window.shades for window in windows), strict=True)]
        x = self._first(self._first.join(x, way)) + shades[0]
        for stage, shade in zip(self._stages, shades[1:], strict=True):
            x = stage(x, shade, way)
        x = self._last(self._last.join(functional.leaky_relu(x, _LAST_SLOPE), way))
        sounds = list(torch.tanh(x).squeeze(2).float().cpu().numpy())
        for place, window in enumerate(windows):
            window.kept = [kept[place : place + 1] for kept in way.kept]
        return sounds

    def _samples(self, frames: int) -> int:
        """How many samples a stream's first frames give before more come; 0 where a layer would have none."""
        samples = frames - self._first.padding
        for stage in self._stages:
            samples = max(0, samples) * stage.factor - stage.trim - stage.lag
        return samples - self._last.padding


def _spread(weight: Tensor, factor: int, trim: int) -> _Convolution:
    """A transposed convolution as a usual one with `factor` times the channels: those of consecutive outputs."""
    inputs, outputs, kernel = weight.shape
    taps = kernel // factor
    if kernel % factor or kernel - factor != 2 * trim:
        raise ValueError(f"not XTTS's vocoder: kernel {kernel}, stride {factor}, padding {trim}")
    phases = weight.reshape(inputs, outputs, taps, factor).flip(2).permute(3, 1, 0, 2)
    return _Convolution(phases.reshape(-1, inputs, taps), None, padding=taps - 1)
