"""The only file that knows coqui-tts: its untyped modules leave it with the types that the engine relies on.

Taken from coqui-tts are the network's definitions, its configuration and its tokenizer. Importing this file takes
seconds: import it off the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from TTS.tts.configs.xtts_config import XttsConfig
from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
from TTS.tts.models import xtts as coqui_xtts


class Tokenizer(Protocol):
    """Text to the ids that a checkpoint was trained on."""

    char_limits: Mapping[str, int]
    """Characters per language beyond which XTTS loses its thread."""

    def encode(self, txt: str, lang: str) -> list[int]:
        """Ids of a text, with its language's tag before it; `lang` is one of XTTS's 17 tags."""
        ...

    def get_number_tokens(self) -> int:
        """The highest id and one."""
        ...


class Arguments(Protocol):
    """The part of a configuration that shapes the network."""

    gpt_layers: int
    gpt_n_model_channels: int
    gpt_n_heads: int
    gpt_max_audio_tokens: int
    gpt_max_text_tokens: int
    gpt_number_text_tokens: int
    gpt_start_text_token: int
    gpt_stop_text_token: int


class Config(Protocol):
    """A checkpoint's configuration, as far as the engine reads it."""

    model_args: Arguments
    languages: Sequence[str]
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    gpt_cond_len: int
    gpt_cond_chunk_len: int
    max_ref_len: int
    sound_norm_refs: bool


class Model(Protocol):
    """The whole of coqui's network: conditioning, transformer and vocoder."""

    gpt: nn.Module
    hifigan_decoder: nn.Module
    mel_stats: Tensor

    def get_gpt_cond_latents(self, audio: Tensor, sr: int, length: int = 30, chunk_length: int = 6) -> Tensor:
        """Latents (1, 32, d) of `audio` (1, n)."""
        ...

    def get_speaker_embedding(self, audio: Tensor, sr: int) -> Tensor:
        """Speaker embedding (1, 512, 1) of `audio` (1, n)."""
        ...


@dataclass(frozen=True)
class Affine:
    """A weight and its bias: a linear layer's (out, in) and (out,), a norm's (d,) and (d,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Block:
    """One transformer layer of the GPT-2 kind, norms first."""

    attention_norm: Affine
    qkv: Affine
    attention_out: Affine
    mlp_norm: Affine
    up: Affine
    down: Affine


@dataclass(frozen=True)
class Transformer:
    """The weights and numbers of coqui's GPT that decoding needs; views of the module's own, nothing is copied."""

    blocks: tuple[Block, ...]
    heads: int
    epsilon: float
    last_norm: Affine
    """GPT-2's own last norm; coqui's follows it."""
    final_norm: Affine
    head: Affine
    text_embedding: Tensor
    text_positions: Tensor
    code_embedding: Tensor
    code_positions: Tensor
    start_text: int
    stop_text: int
    start_code: int
    stop_code: int
    most_text: int
    """Text tokens that a prompt may have, without its start and stop."""
    most_codes: int
    """Codes that coqui generates at most, the stop code included."""


def read_config(file: Path) -> Config:
    """The configuration in a checkpoint's `config.json`; what coqui-tts doesn't know in it is passed over."""
    config: Any = XttsConfig()
    config.load_json(file)
    read: Config = config
    return read


def read_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer in a checkpoint's `vocab.json`."""
    tokenizer: Any = VoiceBpeTokenizer(vocab_file=file)
    read: Tokenizer = tokenizer
    return read


def token_id(tokenizer: Tokenizer, token: str) -> int | None:
    """The id of one whole token, such as `[START]`."""
    found: int | None = getattr(tokenizer, "tokenizer").token_to_id(token)  # noqa: B009 - not part of our Protocol
    return found


def read_weights(file: Path) -> dict[str, Any]:
    """What a `.pth` file holds, without running code from it; unlike coqui's loader it never rewrites the file."""
    with coqui_xtts._legacy_safe_globals():
        read: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return read


def build(config: Config, tokenizer: Tokenizer, state: Mapping[str, Tensor], device: str) -> Model:
    """Coqui's network with the given weights, ready for inference.

    The weights, not the tokenizer, say how many text tokens there are, so that any fine-tuned vocabulary fits.

    Raises:
        RuntimeError: Weights are missing, too many, or of another shape.
    """
    with _quiet():
        with _Unfilled():
            model: Any = coqui_xtts.Xtts(config)
        model.tokenizer = tokenizer
        model.load_state_dict(state, strict=True)
        model.to(device)
        model.eval()
    built: Model = model
    return built


class _Unfilled(TorchFunctionMode):
    """Leaves out random numbers: all of them are about to be overwritten, and drawing 460 million takes seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`, unless it fills a tensor with random numbers."""
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def _quiet() -> Iterator[None]:
    """Spare the log four warnings about token ids of GPT-2 that XTTS never uses."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def transformer(gpt: nn.Module) -> Transformer:
    """The decoding part of coqui's GPT."""
    coqui: Any = gpt

    def affine(module: Any) -> Affine:
        return Affine(module.weight.detach(), module.bias.detach())

    def turned(module: Any) -> Affine:
        return Affine(module.weight.detach().t(), module.bias.detach())

    return Transformer(
        blocks=tuple(
            Block(
                attention_norm=affine(block.ln_1),
                qkv=turned(block.attn.c_attn),
                attention_out=turned(block.attn.c_proj),
                mlp_norm=affine(block.ln_2),
                up=turned(block.mlp.c_fc),
                down=turned(block.mlp.c_proj),
            )
            for block in coqui.gpt.h
        ),
        heads=coqui.heads,
        epsilon=coqui.gpt.ln_f.eps,
        last_norm=affine(coqui.gpt.ln_f),
        final_norm=affine(coqui.final_norm),
        head=affine(coqui.mel_head),
        text_embedding=coqui.text_embedding.weight.detach(),
        text_positions=coqui.text_pos_embedding.emb.weight.detach(),
        code_embedding=coqui.mel_embedding.weight.detach(),
        code_positions=coqui.mel_pos_embedding.emb.weight.detach(),
        start_text=coqui.start_text_token,
        stop_text=coqui.stop_text_token,
        start_code=coqui.start_audio_token,
        stop_code=coqui.stop_audio_token,
        most_text=coqui.max_text_tokens - 2,
        most_codes=coqui.max_gen_mel_tokens,
    )
