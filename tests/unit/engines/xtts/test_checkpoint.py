"""Checkpoints of every layout load; what is missing or damaged is named with what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engines.tts.xtts import checkpoint, coqui
from engines.tts.xtts.batch import Batch
from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.errors import CorruptCheckpoint, ForeignLatents, MissingCheckpoint
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.network import Exact
from engines.tts.xtts.sampling import Sampling
from engines.types import EngineNotConfigured
from tests.models import xtts as small
from tests.unit.engines.xtts.coqui_loop import streamed, voice


@pytest.fixture(scope="module")
def tuned_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.fine_tuned(tmp_path_factory.mktemp("xtts") / "tuned")


@pytest.fixture(scope="module")
def tuned(tuned_folder: Path) -> Checkpoint:
    return checkpoint.load(tuned_folder, "cpu")


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Path:
    """A base checkpoint to damage; its big file is linked until something replaces it."""
    for file in base_folder.iterdir():
        (tmp_path / file.name).hardlink_to(file)
    return tmp_path


def replace(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)


def test_a_base_checkpoint_loads_with_its_speakers_and_none_of_its_files_changes(base_folder: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in base_folder.iterdir()}
    loaded = checkpoint.load(base_folder, "cpu")
    assert {file.name: file.stat().st_mtime_ns for file in base_folder.iterdir()} == before
    assert set(loaded.speakers) == set(small.SPEAKERS)
    assert [tensor.shape for tensor in loaded.speakers["Small Ada"]] == [(32, 64), (512, 1)]
    assert loaded.mel_stats.shape == (80,)
    assert not loaded.gpt.training
    assert not loaded.decoder.training


def test_a_fine_tuned_checkpoint_with_a_vocabulary_of_its_own_makes_coquis_codes(
    base: Checkpoint, tuned: Checkpoint
) -> None:
    assert tuned.tokenizer.get_number_tokens() == base.tokenizer.get_number_tokens() + 40
    assert tuned.speakers == {}
    newest = tuned.tokenizer.get_number_tokens() - 1
    ids = [*tuned.tokenizer.encode("The words are new.", "en"), newest]
    latents = Latents(*base.speakers["Small Ada"], tuned.fingerprint)
    batch, codes = Batch(tuned, Exact(), 1), []
    batch.join(ids, latents, Sampling(top_k=1))
    while made := batch.step():
        codes += [one.code for one in made]
    assert codes == streamed(tuned, ids, latents, Sampling(top_k=1))[0]


def test_latents_of_one_checkpoint_are_refused_by_another(base: Checkpoint, tuned: Checkpoint) -> None:
    with pytest.raises(ForeignLatents, match="another checkpoint"):
        Batch(tuned, Exact(), 1).join([5], voice(base, "Small Ada"), Sampling())


def test_the_fingerprint_names_the_content_wherever_it_lies(
    base: Checkpoint, base_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(base_folder, tmp_path / "moved")
    moved = tmp_path / "moved"
    assert checkpoint.fingerprint(moved / "config.json", moved / "model.pth") == base.fingerprint
    weights = coqui.read_weights(moved / "model.pth")["model"]
    torch.save({"model": weights | {"gpt.mel_head.bias": weights["gpt.mel_head.bias"] + 1e-3}}, tmp_path / "other.pth")
    (tmp_path / "other.pth").rename(moved / "model.pth")
    assert checkpoint.fingerprint(moved / "config.json", moved / "model.pth") != base.fingerprint


def test_the_best_of_a_training_run_goes_before_its_newest_step(copy: Path, base: Checkpoint) -> None:
    (copy / "model.pth").rename(copy / "checkpoint_1000.pth")
    replace(copy / "config.json", (copy / "config.json").read_bytes())
    (copy / "checkpoint_900.pth").write_bytes(b"older, and not a checkpoint")
    assert checkpoint.load(copy, "cpu").fingerprint == base.fingerprint
    (copy / "best_model.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(CorruptCheckpoint, match=r"best_model\.pth"):
        checkpoint.load(copy, "cpu")


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "model.pth"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(MissingCheckpoint, match=name):
        checkpoint.load(copy, "cpu")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingCheckpoint, match="XTTS_MODEL_PATH"):
        checkpoint.load(tmp_path / "nothing", "cpu")


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "model.pth", "speakers_xtts.pth"])
@pytest.mark.parametrize("damage", ["halved", "emptied", "overwritten"])
def test_a_damaged_file_is_named(copy: Path, name: str, damage: str) -> None:
    content = (copy / name).read_bytes()
    replace(copy / name, {"halved": content[: len(content) // 2], "emptied": b"", "overwritten": b"?" * 99}[damage])
    with pytest.raises(CorruptCheckpoint, match=name):
        checkpoint.load(copy, "cpu")


def saved_differently(change: Callable[[dict[str, Any]], Any], file: Path) -> None:
    weights = coqui.read_weights(file)["model"]
    file.unlink()  # not overwritten: it is a link, and mapped
    torch.save(change({"model": weights}), file)


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved["model"],
        lambda saved: [1, 2],
        lambda saved: {"model": {key: value for key, value in saved["model"].items() if "mel_head" not in key}},
        lambda saved: {"model": saved["model"] | {"gpt.mel_head.bias": torch.zeros(5)}},
        lambda saved: {"model": saved["model"] | {"gpt.text_embedding.weight": torch.zeros(100, 64)}},
    ],
)
def test_weights_of_another_model_are_refused(copy: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    saved_differently(change, copy / "model.pth")
    with pytest.raises(CorruptCheckpoint, match=r"model\.pth"):
        checkpoint.load(copy, "cpu")


def test_a_configuration_of_another_size_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["model_args"]["gpt_layers"] = 30
    replace(copy / "config.json", json.dumps(config).encode())
    with pytest.raises(EngineNotConfigured):
        checkpoint.load(copy, "cpu")


def test_a_file_with_code_in_it_is_refused_and_the_code_does_not_run(copy: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    (copy / "model.pth").unlink()
    torch.save({"model": Trap()}, copy / "model.pth")
    with pytest.raises(CorruptCheckpoint):
        checkpoint.load(copy, "cpu")
    assert not (tmp_path / "sprung").exists()
