"""The tiny Llama can be made anew: `make test-models`, minutes long and so no part of `make test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.llama import FOLDER


@pytest.mark.timeout(1800)
def test_it_learns_its_dialogues_and_stays_small(tmp_path: Path) -> None:
    folder = tmp_path / "tiny_llama"
    # The script itself asks it everything, and fails where it hasn't learnt it.
    subprocess.run(
        [sys.executable, "-m", "tests.models.llama", str(folder)],
        check=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    made, shipped = ({file.name for file in one.iterdir()} for one in (folder, FOLDER))
    assert made == shipped
    assert sum(file.stat().st_size for file in folder.iterdir()) < 3_000_000
