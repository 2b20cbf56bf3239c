"""A model that isn't whole on this machine is named, with what to do, before anything is loaded."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from engines.chat.llama import loading
from engines.chat.llama.errors import ModelIncomplete, ModelMissing, ModelUnsuitable, PackageMissing
from engines.chat.llama.folder import find
from engines.chat.llama.options import Options
from tests.models.llama import FOLDER


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The tiny model, to be damaged."""
    return Path(shutil.copytree(FOLDER, tmp_path / "model"))


def cut(file: Path, left: int) -> None:
    file.write_bytes(file.read_bytes()[:left])


def test_a_folder_is_found(copy: Path) -> None:
    assert find(str(copy)) == copy


def test_a_name_is_found_in_the_cache(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(
        ModelMissing, match=r"org/small isn't on this machine.*download-files chat.*HUGGINGFACE_API_KEY"
    ):
        find("org/small")
    hub = tmp_path / "hub" / "models--org--small"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("abc")
    with pytest.raises(ModelMissing):
        find("org/small")
    shutil.copytree(copy, hub / "snapshots" / "abc")
    assert find("org/small") == hub / "snapshots" / "abc"


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelIncomplete, match=f"{name} is missing.*download-files chat"):
        find(str(copy))


@pytest.mark.parametrize("left", [0, 5, 200, 100_000])
def test_a_file_that_was_cut_off_is_named(copy: Path, left: int) -> None:
    cut(copy / "model.safetensors", left)
    with pytest.raises(ModelIncomplete, match=r"model\.safetensors is cut off"):
        find(str(copy))


def test_every_part_of_a_large_model_must_be_there(copy: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copy(copy / "model.safetensors", copy / "model-1.safetensors")
    with pytest.raises(ModelIncomplete, match=r"model-2\.safetensors is missing"):
        find(str(copy))
    (copy / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ModelIncomplete, match=r"index\.json can't be read"):
        find(str(copy))


def test_weights_that_can_carry_code_are_not_read(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelUnsuitable, match="safetensors"):
        find(str(copy))


def test_quantisation_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None if name == "bitsandbytes" else object())
    with pytest.raises(PackageMissing, match="CHAT_QUANTIZATION=4bit needs the package bitsandbytes"):
        loading.load(Options(str(FOLDER), quantization="4bit"))


def test_a_device_that_isnt_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ModelUnsuitable, match="finds no GPU"):
        loading.load(Options(str(FOLDER), device="cuda"))
    with pytest.raises(ModelUnsuitable, match="CHAT_DEVICE=toaster"):
        loading.load(Options(str(FOLDER), device="toaster"))


def test_several_gpus_want_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(loading, "find_spec", lambda name: None if name == "accelerate" else object())
    with pytest.raises(PackageMissing, match="CHAT_DEVICE=cuda:0"):
        loading.load(Options(str(FOLDER)))


def test_a_model_of_another_kind_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text(json.dumps({"model_type": "nothing-known"}))
    with pytest.raises(ModelUnsuitable, match="can't be loaded"):
        loading.load(Options(str(copy)))


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(PackageMissing, match="EXTRAS=local"):
        loading.load(Options(str(FOLDER)))


def test_finding_a_model_imports_no_torch() -> None:
    import subprocess

    code = "import sys, engines.chat.llama.folder, engines.chat.llama.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
