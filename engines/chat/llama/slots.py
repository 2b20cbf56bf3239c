"""Keys and values of many conversations, one row each, and the attention over them inside the unmodified model.

Transformers calls a registered attention function in every layer, with the queries, keys and values of the positions
that are new and with whatever else was given to the model's `forward`. So a step packs the new positions of all rows,
one for a row that decodes and a piece of the prompt for one that joins, into a single sequence: linear layers see them
together, and attention takes each row's apart. Nothing is padded, and no row pays for another one's length.

Queries of the heads that share keys and values are laid side by side as if they were positions, so that keys and values
are never repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engines.chat.llama.errors import ModelUnsuitable

ATTENTION = "voice_node_slots"
"""The name under which `attend` is registered with transformers."""


@dataclass(frozen=True, slots=True)
class Work:
    """New positions of one row: `ids` are the tokens at positions `start`, `start` + 1, ..."""

    row: int
    start: int
    ids: Sequence[int]


class Slots:
    """The caches of all layers, each made on its layer's device when that is first met.

    Args:
        rows: Conversations that are held.
        positions: Tokens that each of them may have.
        gathered: Attend for all decoding rows in one call over copies of their caches, which pays where calls cost more
            than copies, as on a GPU; else row by row, over exactly what each row holds.
    """

    def __init__(self, rows: int, positions: int, gathered: bool) -> None:
        self.rows = rows
        self.positions = positions
        self.gathered = gathered
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def layers(self) -> int:
        """How many layers have a cache."""
        return len(self._layers)

    def layer(self, index: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's keys and values, each of shape (rows, key-value heads, positions, numbers in a head)."""
        found = self._layers.get(index)
        if found is None:
            shape = (self.rows, like.shape[1], self.positions, like.shape[3])
            # Zeros, not leftovers: what a gathered row doesn't hold is multiplied all the same, by 0.
            found = self._layers[index] = (like.new_zeros(shape), like.new_zeros(shape))
        return found

    def copy(self, source: int, target: int, positions: int) -> None:
        """Give a row the first positions of another one."""
        with torch.inference_mode():
            for layer in self._layers.values():
                for part in layer:
                    part[target, :, :positions] = part[source, :, :positions]

    def clear(self, row: int) -> None:
        """Forget what a row holds, numbers that aren't finite among it."""
        with torch.inference_mode():
            for layer in self._layers.values():
                for part in layer:
                    part[row].zero_()


class Step:
    """The packed positions of a step, rows that decode first.

    Attributes:
        work: As packed.
        ids: Tokens, shape (1, packed positions).
        positions: Where each stands in its row, same shape.
        last: Index of each row's last packed position, in the order of `work`.
    """

    def __init__(self, slots: Slots, work: Sequence[Work], device: torch.device) -> None:
        self.slots = slots
        self.work = sorted(work, key=lambda one: len(one.ids) > 1)
        self.decoding = sum(len(one.ids) == 1 for one in self.work)
        lengths = [len(one.ids) for one in self.work]
        self.last = torch.tensor(lengths).cumsum(0) - 1
        self.ids = torch.tensor([[token for one in self.work for token in one.ids]], device=device)
        at = [one.start + number for one in self.work for number in range(len(one.ids))]
        self.positions = torch.tensor([at], device=device)
        self._rows = torch.tensor([one.row for one in self.work for _ in one.ids])
        self._at = torch.tensor(at)
        self._ends = torch.tensor([one.start + 1 for one in self.work[: self.decoding]])
        self._placed: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def places(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Each packed position's row and place in it, and which places decoding rows see, on a layer's device."""
        found = self._placed.get(device)
        if found is None:
            reach = int(self._ends.max()) if self.decoding else 0
            seen = (torch.arange(reach)[None] < self._ends[:, None])[:, None, None]
            found = self._placed[device] = (self._rows.to(device), self._at.to(device), seen.to(device))
        return found


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    step: Step,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it, over a step's packed positions.

    Args:
        module: The layer's attention module.
        query: Shape (1, heads, packed positions, numbers in a head).
        key: The same with key-value heads.
        value: As `key`.
        attention_mask: Nothing: a step knows who sees what.
        step: What is packed.
        scaling: By which products are multiplied.
        softcap: A limit on products that some models have and this engine hasn't.

    Returns:
        Shape (1, packed positions, heads, numbers in a head), and None.

    Raises:
        ModelUnsuitable: The model wants a softcap.
    """
    if softcap is not None:
        raise ModelUnsuitable("This model caps its attention, which the local engine can't; serve it by CHAT_URL.")
    slots = step.slots
    keys, values = slots.layer(module.layer_idx, key)
    rows, at, seen = step.places(key.device)
    keys[rows, :, at] = key[0].transpose(0, 1)
    values[rows, :, at] = value[0].transpose(0, 1)
    heads, packed, width = query.shape[1:]
    shared = keys.shape[1]
    out = query.new_empty(packed, heads, width)
    asked = query[0]
    offset = 0
    if slots.gathered and step.decoding:
        offset = step.decoding
        which, reach = rows[:offset], seen.shape[-1]
        found = functional.scaled_dot_product_attention(
            asked[:, :offset].transpose(0, 1).reshape(offset, shared, -1, width),
            keys[which, :, :reach],
            values[which, :, :reach],
            attn_mask=seen,
            scale=scaling,
        )
        out[:offset] = found.reshape(offset, heads, width)
    for one in step.work[offset:]:
        count = len(one.ids)
        end = one.start + count
        mask = None
        if count > 1:
            mask = torch.ones(count, end, dtype=torch.bool, device=query.device).tril(one.start)
            mask = mask.repeat(heads // shared, 1)
        found = functional.scaled_dot_product_attention(
            asked[:, offset : offset + count].reshape(1, shared, -1, width),
            keys[one.row : one.row + 1, :, :end],
            values[one.row : one.row + 1, :, :end],
            attn_mask=mask,
            scale=scaling,
        )
        out[offset : offset + count] = found.reshape(heads, count, width).transpose(0, 1)
        offset += count
    return out[None], None
