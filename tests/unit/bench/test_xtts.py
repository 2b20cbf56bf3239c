"""What the XTTS benchmark makes of what it measured."""

from __future__ import annotations

import pytest

from bench.xtts import Figures, one_after_another, table
from bench.xtts_quality import word_errors

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
