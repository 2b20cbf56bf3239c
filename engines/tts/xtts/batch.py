"""Continuous batching: streams join and leave between steps, and each step makes one code for all of them.

How codes and latents belong together, as coqui has it: a step's input is the code before (the start code at first); its
output is both the next code and the hidden state `final_norm(ln_f(h))` that this code was drawn from, and this hidden
state is that code's latent for the vocoder. So n steps give n codes and n latents, among them the stop code and its
latent, which both of coqui's ways turn into sound as well: `inference_stream` yields it with the stop code; the second
pass of `inference` runs over start, c0, ..., c(n-1) and four stop codes of padding, cuts off the last five outputs, and
so keeps those at start, c0, ..., c(n-2), which are these n latents. No second pass is needed here.

One thread uses a batch; nothing in it waits or knows of asyncio.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.coqui import transformer
from engines.tts.xtts.errors import BrokenStream, ForeignLatents, NoFreeSlot, UnspeakableText
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.memory import memory_named
from engines.tts.xtts.network import Backend, Prefix
from engines.tts.xtts.sampling import Sampler, Sampling
from engines.types import EngineError

_VOICES = 16
"""Voices whose prefix is kept: 8 MB each in a full-size float32 network."""


@dataclass(frozen=True, eq=False)
class Made:
    """What a step made for one stream.

    Attributes:
        slot: The stream, by the number that `join` gave it.
        code: The code; the stop code where the network ended the stream itself.
        latent: The code's latent, float32, shape (d,): the vocoder's input.
        stop: Whether the stream ended with this: by the stop code, at the last code it was allowed, or broken. It has
            left the batch then.
        stop_rank: How many codes the network found likelier than the stop code.
        stop_probability: The stop code's probability, before penalty and temperature.
        error: Why a stream broke off, else None; code and latent mean nothing then.
    """

    slot: int
    code: int
    latent: Tensor
    stop: bool
    stop_rank: int
    stop_probability: float
    error: EngineError | None = None


@dataclass
class _Stream:
    slot: int
    length: int
    left: int


class Batch:
    """Streams of one checkpoint that are decoded together.

    The streams sit in the network's first rows, in the order of `_streams`; where one leaves, the last one moves into
    its row. A slot number is never given twice, so that leaving late or twice harms nobody.

    Args:
        checkpoint: Whose network.
        backend: How it is computed.
        slots: How many streams it holds at most.
    """

    def __init__(self, checkpoint: Checkpoint, backend: Backend, slots: int) -> None:
        self._checkpoint = checkpoint.fingerprint
        with memory_named(), torch.inference_mode():
            self._weights = weights = transformer(checkpoint.gpt)
            self._network = backend.network(weights, slots)
            codes = len(weights.head.bias)
            self._sampler = Sampler(
                slots, codes, weights.start_code, weights.stop_code, weights.most_codes, backend.device
            )
        self._slots = slots
        self._streams: list[_Stream] = []
        self._prefixes: OrderedDict[bytes, Prefix] = OrderedDict()
        self._next = 0

    @property
    def free(self) -> int:
        """How many more streams may join."""
        return self._slots - len(self._streams)

    def prepare(self, latents: Latents) -> None:
        """Compute a voice's prefix beforehand, so that the first stream in this voice starts as soon as later ones.

        Raises:
            NoFreeSlot: All are taken; one is needed to compute in.
            ForeignLatents: The latents belong to another checkpoint, or aren't of its shape.
            BrokenStream: The latents overflow.
            OutOfMemory: The device has no memory left for it.
        """
        self._check_free()
        self._check(latents)
        with memory_named(), torch.inference_mode():
            self._prefix(len(self._streams), latents)

    def join(self, text_ids: Sequence[int], latents: Latents, sampling: Sampling, max_codes: int | None = None) -> int:
        """Take in a stream; its first code comes with the next step.

        Args:
            text_ids: What the checkpoint's tokenizer makes of the text.
            latents: The voice.
            sampling: How its codes are drawn.
            max_codes: How many codes it makes at most; the checkpoint's own limit where None.

        Returns:
            Its slot.

        Raises:
            NoFreeSlot: All are taken.
            UnspeakableText: The text is too long, empty, or has unknown ids.
            ForeignLatents: The latents belong to another checkpoint, or aren't of its shape.
            BrokenStream: The voice's latents overflow.
            OutOfMemory: The device has no memory left for it.
        """
        self._check_free()
        text = self._text(text_ids)
        self._check(latents)
        row = len(self._streams)
        with memory_named(), torch.inference_mode():
            self._network.fill(row, self._prefix(row, latents), text, self._weights.start_code)
            self._sampler.join(row, sampling)
        most = self._weights.most_codes
        length = len(latents.gpt) + len(text_ids) + 2
        left = most if max_codes is None else max(1, min(max_codes, most))
        self._next += 1
        self._streams.append(_Stream(self._next, length, left))
        return self._next

    def step(self) -> list[Made]:
        """Make one code for every stream; those that ended with it have left.

        Raises:
            OutOfMemory: The device has no memory left for the step; it may be tried again once a stream has left.
        """
        rows = len(self._streams)
        if not rows:
            return []
        network = self._network
        with memory_named(), torch.inference_mode():
            latents, logits = network.step(rows, max(stream.length for stream in self._streams) + 1)
            drawn = self._sampler.draw(logits, network.made[:rows])
            network.codes[:rows] = drawn.code
            network.made[:rows] += 1
            network.length[:rows] += 1
            latents = latents.clone()
            numbers = torch.stack([drawn.code.double(), drawn.stop_rank.double(), drawn.stop_probability.double()])
            made = [
                self._told(stream, int(code), latent, int(rank), probability)
                for stream, latent, (code, rank, probability) in zip(
                    self._streams, latents, numbers.t().tolist(), strict=True
                )
            ]
            for row, one in enumerate(made):
                if one.error is not None:
                    network.clear(row)
        for one in made:
            if one.stop:
                self.leave(one.slot)
        return made

    def leave(self, slot: int) -> None:
        """End a stream and free its slot at once; nothing happens where it has left already."""
        row = next((row for row, stream in enumerate(self._streams) if stream.slot == slot), None)
        if row is None:
            return
        last = len(self._streams) - 1
        with torch.inference_mode():
            if row != last:
                self._streams[row] = self._streams[last]
                self._network.move(last, row, self._streams[row].length)
                self._sampler.move(last, row)
            self._network.release(last)
        del self._streams[last]

    def _told(self, stream: _Stream, code: int, latent: Tensor, rank: int, probability: float) -> Made:
        stream.length += 1
        stream.left -= 1
        stop = code == self._weights.stop_code or not stream.left
        if math.isfinite(probability):
            return Made(stream.slot, code, latent, stop, rank, probability)
        error = BrokenStream("XTTS lost a stream to numbers that overflowed; say it again, or use float32.")
        return Made(stream.slot, code, latent, True, rank, 0.0, error)

    def _prefix(self, row: int, latents: Latents) -> Prefix:
        kept = self._prefixes.get(latents.digest)
        if kept is None:
            kept = self._prefixes[latents.digest] = self._network.prefix(row, latents.gpt)
            if len(self._prefixes) > _VOICES:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(latents.digest)
        return kept

    def _text(self, ids: Sequence[int]) -> Tensor:
        if not ids:
            raise UnspeakableText("XTTS was given a text without anything to say.")
        if len(ids) >= self._weights.most_text:
            raise UnspeakableText(f"XTTS takes texts of under {self._weights.most_text} tokens; split this one.")
        if min(ids) < 0 or max(ids) >= len(self._weights.text_embedding):
            raise UnspeakableText("XTTS was given text ids that its checkpoint doesn't know; use its own tokenizer.")
        return torch.tensor(ids, dtype=torch.long)

    def _check_free(self) -> None:
        if not self.free:
            raise NoFreeSlot(f"All {self._slots} slots of XTTS are taken; ask again when a stream has ended.")

    def _check(self, latents: Latents) -> None:
        if latents.checkpoint != self._checkpoint:
            raise ForeignLatents("These latents were made by another checkpoint; make them anew from the recordings.")
        shapes = (32, self._weights.code_embedding.shape[1]), (512, 1)
        parts = latents.gpt, latents.speaker
        if tuple(part.shape for part in parts) != shapes or not all(part.isfinite().all() for part in parts):
            raise ForeignLatents("These latents are damaged; make them anew from the recordings.")
