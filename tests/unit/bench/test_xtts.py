"""What the XTTS benchmark makes of what it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.xtts import Figures, one_after_another, table
from bench.xtts_quality import SENTENCES, compare, word_errors
from engines.types import Audio
from tests.models import xtts as models

CHUNK = 24_000


def test_streams_at_once_are_as_fast_as_their_last_sound() -> None:
    made = Figures.of("ours", [[(0.5, CHUNK), (1.0, CHUNK)], [(0.7, CHUNK), (4.0, CHUNK)]], 80, 10.0)
    assert (made.streams, made.total, made.codes_a_second) == (2, 4.0, 20.0)
    assert made.real_time_factor == pytest.approx(2.0)
    assert made.first == pytest.approx(0.6)
    assert made.gap_free == pytest.approx((0.5 + 3.0) / 2)  # the second runs dry unless it begins 3 s later


def test_requests_one_after_another_wait_for_those_before() -> None:
    assert one_after_another([(1.0, CHUNK), (3.0, CHUNK)], 2) == [
        [(1.0, CHUNK), (3.0, CHUNK)],
        [(4.0, CHUNK), (6.0, CHUNK)],
    ]


def test_ratios_are_to_coquis_default_chunk_and_to_its_better_one() -> None:
    coquis = [
        Figures(f"coqui, chunk {chunk}", 1, 1.0, first, 8.0, 2.0, rate, 0.0)
        for chunk, first, rate in ((20, 4.0, 5.0), (40, 3.0, 8.0))
    ]
    ours = Figures("ours int8", 1, 0.5, 0.5, 2.0, 0.5, 40.0, 100.0)
    assert table([*coquis, ours]).endswith("| 40.0 | 100 | 8.0, 5.0 | 8.0, 6.0 |")


@pytest.mark.parametrize(
    ("heard", "errors"),
    [
        ("The second street, on the left!", 0),
        ("the second on the left", 1),
        ("a second street on the very left", 2),
        ("", 6),
    ],
)
def test_word_errors_count_what_was_changed_left_out_and_put_in(heard: str, errors: int) -> None:
    assert word_errors("The second street on the left.", heard) == errors


def test_both_precisions_are_spoken_heard_and_compared(tmp_path: Path) -> None:
    lengths: list[int] = []

    def heard(audio: Audio) -> str:
        lengths.append(len(audio))
        return SENTENCES[len(lengths) % 2]

    folder = models.base(tmp_path, ends_after=8)
    figures = compare(folder, "cpu", heard, sentences=SENTENCES[:2], seeds=1, voices=1)
    assert set(figures) == {"fp32", "int8"}
    assert min(lengths) > 8 * 1024 and len(lengths) == 4
    for found in figures.values():
        assert found["sentences"] == 2
        assert 0.5 < found["word_error_rate"] <= 1.5, "each was taken for the other"
        assert -1 <= found["speaker_similarity"] <= 1
