"""Small checkpoints, made and loaded once for all tests of the XTTS engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engines.tts.xtts import checkpoint
from engines.tts.xtts.checkpoint import Checkpoint
from tests.models import xtts as small


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are fastest in one thread, and don't wait for a busy machine's other cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.base(tmp_path_factory.mktemp("xtts") / "base")


@pytest.fixture(scope="session")
def base(base_folder: Path) -> Checkpoint:
    return checkpoint.load(base_folder, "cpu")
