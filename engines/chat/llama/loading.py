"""Loads a model; the only file that knows transformers' loading and its untyped parts.

Nothing is downloaded here. Importing torch and transformers takes seconds: `load` does it, off the event loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from engines.chat.llama.errors import ModelUnsuitable, OutOfMemory, PackageMissing
from engines.chat.llama.folder import find, incomplete
from engines.chat.llama.options import Options

if TYPE_CHECKING:
    from engines.chat.llama.batch import Batch
    from engines.chat.llama.prompts import Prompts
    from engines.chat.llama.sampling import Sampling

MOST_KEPT = 4
"""Rows for each slot, where memory allows: conversations between two turns."""
_SPARE = 1_000_000_000
"""Bytes of a GPU that caches leave free, for what a step needs beside them."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to answer.

    Attributes:
        batch: The model, over its caches.
        prompts: Messages to tokens.
        tokenizer: The model's.
        sampling: What the model's makers recommend.
        device: Where it is.
    """

    batch: Batch
    prompts: Prompts
    tokenizer: Any
    sampling: Sampling
    device: str


def load(options: Options) -> Loaded:
    """Load the model, make its caches, and compute with both once.

    Raises:
        EngineNotConfigured: It is missing, damaged, unsuitable, or lacks a package; says what to do.
        OutOfMemory: It doesn't fit.
    """
    for package in ("torch", "transformers"):
        if not find_spec(package):
            raise PackageMissing(f"The local chat model needs {package}; run 'make setup EXTRAS=local'.")
    placing = _quantized(options)
    folder = find(options.model)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from engines.chat.llama.prompts import Prompts

    chatter: Any = transformers_logging
    chatter.disable_progress_bar()
    device = _device(options)
    placing = {**placing, **_spread(options, device, bool(placing))}
    # Any: transformers' own types don't say what these give.
    loader: Any = AutoModelForCausalLM
    tokens: Any = AutoTokenizer
    try:
        with _named(options):
            tokenizer = tokens.from_pretrained(folder, local_files_only=True)
            model = loader.from_pretrained(folder, dtype=_dtype(options, device), local_files_only=True, **placing)
            if not placing:
                model = model.to(device)
            model.eval()
        context = _context(options, model.config)
        prompts = Prompts(tokenizer, budget=context - context // 4, limit=context - context // 8)
        with _named(options):
            batch = assemble(model, options, context, tokenizer.eos_token_id)
    except BaseException:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise
    return Loaded(batch, prompts, tokenizer, _recommended(model.generation_config), str(model.device))


def assemble(model: Any, options: Options, context: int, eos: int | None = None) -> Batch:
    """A batch over a loaded model of transformers, tried once with one token.

    Args:
        model: The model; its attention is replaced by ours.
        options: Slots and rows.
        context: Tokens of a conversation.
        eos: The tokenizer's end of a text.

    Raises:
        ModelUnsuitable: Its attention can't be replaced.
    """
    import torch
    from transformers import AttentionInterface

    from engines.chat.llama.batch import Batch
    from engines.chat.llama.slots import ATTENTION, Slots, Step, Work, attend

    registry: Any = AttentionInterface
    registry.register(ATTENTION, attend)
    model.set_attn_implementation(ATTENTION)
    device = model.get_input_embeddings().weight.device
    gathered = device.type != "cpu"
    layers = model.config.get_text_config().num_hidden_layers
    slots = Slots(_rows(options, model, context), context, gathered)
    with torch.inference_mode():
        step = Step(slots, [Work(0, 0, [0])], device)
        try:
            model(input_ids=step.ids, position_ids=step.positions, use_cache=False, logits_to_keep=step.last, step=step)
        except TypeError as error:
            raise ModelUnsuitable(_UNSUITABLE) from error
    if slots.layers != layers:
        raise ModelUnsuitable(_UNSUITABLE)
    ends = model.generation_config.eos_token_id
    ends = {*(ends if isinstance(ends, list | tuple) else [ends]), eos} - {None}
    if not ends:
        raise ModelUnsuitable("CHAT_MODEL names a model that doesn't say which token ends a reply; take one for chat.")
    return Batch(model, device, slots, options.slots, ends)


_UNSUITABLE = (
    "CHAT_MODEL names a model that isn't built as Llama is; take one of Llama's kind (Llama, Qwen, Mistral), or serve "
    "it elsewhere and name its address in CHAT_URL."
)


def _quantized(options: Options) -> dict[str, Any]:
    if not options.quantization:
        return {}
    for package in ("bitsandbytes", "accelerate"):
        if not find_spec(package):
            raise PackageMissing(
                f"CHAT_QUANTIZATION={options.quantization} needs the package {package}, which isn't installed: "
                f"'pip install {package}' into .venv, or leave CHAT_QUANTIZATION empty."
            )
    import torch
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig
    if options.quantization == "8bit":
        return {"quantization_config": config(load_in_8bit=True)}
    numbers = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    return {"quantization_config": config(load_in_4bit=True, **numbers)}


def _device(options: Options) -> str:
    import torch

    there = torch.cuda.is_available()
    if options.device == "auto":
        return "cuda" if there else "cpu"
    try:
        kind = torch.device(options.device).type
    except RuntimeError:
        raise ModelUnsuitable(f"CHAT_DEVICE={options.device} is no device; write auto, cpu, cuda or cuda:0.") from None
    if kind == "cuda" and not there:
        raise ModelUnsuitable(f"CHAT_DEVICE={options.device}, but torch finds no GPU here; set CHAT_DEVICE=auto.")
    return options.device


def _spread(options: Options, device: str, quantized: bool) -> dict[str, Any]:
    """How a model is laid over devices: over all GPUs where there are several and none is named."""
    import torch

    if device == "cuda" and torch.cuda.device_count() > 1:
        if not find_spec("accelerate"):
            raise PackageMissing(
                "A model over several GPUs needs the package accelerate; run 'make setup EXTRAS=local', or name one "
                "GPU, CHAT_DEVICE=cuda:0."
            )
        return {"device_map": "auto"}
    return {"device_map": {"": device}} if quantized else {}


def _dtype(options: Options, device: str) -> Any:
    import torch

    name = options.dtype
    if name == "auto":
        name = "float32" if device == "cpu" else "bfloat16"
    return getattr(torch, name)


def _context(options: Options, config: Any) -> int:
    """Tokens of a conversation: no more than the model was trained on, or than its layers look back."""
    config = config.get_text_config()
    limits = [options.context, config.max_position_embeddings, getattr(config, "sliding_window", None)]
    least: int = min(limit for limit in limits if limit)
    return least


def _rows(options: Options, model: Any, context: int) -> int:
    """How many conversations the caches hold."""
    import torch

    if options.kept:
        return max(options.slots, options.kept)
    if model.device.type != "cuda":
        return 2 * options.slots
    config = model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    row: int = 2 * config.num_hidden_layers * config.num_key_value_heads * width * context * model.dtype.itemsize
    free: int = sum(torch.cuda.mem_get_info(number)[0] - _SPARE for number in range(torch.cuda.device_count()))
    return max(options.slots, min(MOST_KEPT * options.slots, free // row))


def _recommended(config: Any) -> Sampling:
    from engines.chat.llama.sampling import Sampling

    if not config.do_sample:
        return Sampling()
    temperature = config.temperature if config.temperature is not None else 1.0
    return Sampling(temperature, config.top_p if config.top_p is not None else 1.0, config.top_k or 0)


@contextmanager
def _named(options: Options) -> Iterator[None]:
    """Name what loading raises."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"CHAT_MODEL={options.model} doesn't fit into this device's memory; set CHAT_QUANTIZATION=4bit, lower "
            "CHAT_SLOTS or CHAT_CONTEXT, or take a smaller model."
        ) from error
    except SafetensorError as error:
        raise incomplete(options.model, "its weights can't be read") from error
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnsuitable(
            f"CHAT_MODEL={options.model} can't be loaded ({type(error).__name__}); take another model, or download it "
            "again with 'python agent/main.py download-files chat'."
        ) from error
