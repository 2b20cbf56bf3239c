"""Small checkpoints, made and loaded once for all tests of the XTTS engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.tts.xtts import checkpoint
from engines.tts.xtts.checkpoint import Checkpoint
from tests.models import xtts as small


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.base(tmp_path_factory.mktemp("xtts") / "base")


@pytest.fixture(scope="session")
def base(base_folder: Path) -> Checkpoint:
    return checkpoint.load(base_folder, "cpu")
