"""What the settings say about the local chat model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Quantization: TypeAlias = Literal["", "8bit", "4bit"]


@dataclass(frozen=True, slots=True)
class Options:
    """Which model, where and how.

    Attributes:
        model: Hugging Face name or folder.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...; `auto` takes every GPU there is.
        dtype: `auto`, `float32`, `bfloat16`, `float16`.
        quantization: Nothing, or how many bits a weight has.
        slots: Replies at once.
        kept: Conversations whose cache is kept, 0 for as many as memory allows.
        context: Tokens of a conversation.
    """

    model: str
    device: str = "auto"
    dtype: str = "auto"
    quantization: Quantization = ""
    slots: int = 8
    kept: int = 0
    context: int = 4096
