"""Where a model's files are on this machine, and whether they are whole; reads no weights and imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from engines.chat.llama.errors import ModelIncomplete, ModelMissing, ModelUnsuitable


def find(model: str) -> Path:
    """The folder of a model, by its path or in the Hugging Face cache.

    Raises:
        ModelMissing: There is none; says how to get it.
        ModelIncomplete: It lacks a file, or a file lacks its end.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _cached(model)
    for name in ("config.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise incomplete(model, f"{name} is missing")
    for file in _weights(model, folder):
        if not file.is_file():
            raise incomplete(model, f"{file.name} is missing")
        if file.suffix == ".safetensors" and not _whole(file):
            raise incomplete(model, f"{file.name} is cut off")
    return folder


def _cached(model: str) -> Path:
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    reference = hub / "refs" / "main"
    if reference.is_file():
        folder = hub / "snapshots" / reference.read_text().strip()
        if folder.is_dir():
            return folder
    raise ModelMissing(
        f"CHAT_MODEL={model} isn't on this machine; download it with 'python agent/main.py download-files chat' (a "
        "gated model wants HUGGINGFACE_API_KEY), or set CHAT_MODEL to a folder that holds it."
    )


def incomplete(model: str, what: str) -> ModelIncomplete:
    """The error for a model of which `what` isn't as it should be."""
    return ModelIncomplete(
        f"CHAT_MODEL={model} isn't whole: {what}. Download it again with 'python agent/main.py download-files chat', "
        "which goes on where it was broken off."
    )


def _weights(model: str, folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
        except (ValueError, KeyError, AttributeError):
            raise incomplete(model, f"{index.name} can't be read") from None
    if (folder / "pytorch_model.bin").is_file() or (folder / "pytorch_model.bin.index.json").is_file():
        raise ModelUnsuitable(
            f"CHAT_MODEL={model} has weights in an old format that can carry code; take one with .safetensors files."
        )
    return [folder / "model.safetensors"]


def _whole(file: Path) -> bool:
    """Whether a safetensors file has the length that its head promises."""
    size = file.stat().st_size
    with file.open("rb") as read:
        length = int.from_bytes(read.read(8), "little")
        if size < 8 + length or length < 2:
            return False
        try:
            head = json.loads(read.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"]
    return size >= 8 + length + max(ends, default=0)
