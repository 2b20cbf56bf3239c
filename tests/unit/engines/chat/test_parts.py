"""Sampling, pace and text of the local chat model's replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from engines.chat.llama.pace import ALONE, FIRST, LEAST, MOST, SHARE, Pace
from engines.chat.llama.sampling import Chance, Sampling, draw
from engines.chat.llama.words import Words

LOGITS = torch.tensor([4.0, 1.0, 3.0, 2.0]).log()
"""Probabilities 0.4, 0.1, 0.3, 0.2."""


def drawn(sampling: Sampling, times: int = 3000) -> dict[int, float]:
    """How often each token is drawn."""
    chance = Chance(sampling)
    counted = Counter(draw(LOGITS[None], [chance])[0] for _ in range(times))
    return {token: count / times for token, count in counted.items() if token is not None}


def test_without_temperature_the_likeliest_is_drawn() -> None:
    assert drawn(Sampling(temperature=0), 20) == {0: 1.0}
    assert drawn(Sampling(temperature=1, top_k=1), 20) == {0: 1.0}


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    shares = drawn(Sampling(temperature=1, seed=3))
    assert [shares[token] for token in range(4)] == pytest.approx([0.4, 0.1, 0.3, 0.2], abs=0.04)


def test_a_low_temperature_sharpens() -> None:
    # Square of the probabilities: 16, 1, 9, 4 of 30.
    shares = drawn(Sampling(temperature=0.5, seed=3))
    assert [shares[token] for token in range(4)] == pytest.approx([16 / 30, 1 / 30, 9 / 30, 4 / 30], abs=0.04)


def test_top_p_leaves_out_what_is_unlikely() -> None:
    shares = drawn(Sampling(temperature=1, top_p=0.6, seed=3))
    assert set(shares) == {0, 2} and shares[0] == pytest.approx(4 / 7, abs=0.04)


def test_each_row_has_its_own_settings_and_its_own_chance() -> None:
    alone, together = Chance(Sampling(temperature=1, seed=5)), Chance(Sampling(temperature=1, seed=5))
    greedy = Chance(Sampling())
    rows = torch.stack([LOGITS, LOGITS])
    for _ in range(50):
        [expected] = draw(LOGITS[None], [alone])
        assert draw(rows, [greedy, together]) == [0, expected]


def test_a_row_that_overflowed_has_no_token_and_spoils_no_other() -> None:
    rows = torch.stack([LOGITS, torch.full((4,), float("nan")), LOGITS])
    chances = [Chance(Sampling()), Chance(Sampling(temperature=1)), Chance(Sampling(temperature=1))]
    first, second, third = draw(rows, chances)
    assert (first, second) == (0, None) and third is not None


def test_a_piece_is_small_until_the_machine_is_known_and_fits_its_speed_then() -> None:
    pace = Pace()
    assert pace.piece(others=False) == FIRST
    pace.took(0.2, 0, 100)
    assert pace.piece(others=False) == int(ALONE / 0.002)
    pace.took(0.00001, 0, 100)
    for _ in range(100):
        pace.took(0.00001, 0, 1000)
    assert pace.piece(others=False) == MOST


def test_among_others_a_piece_takes_about_as_long_as_their_own_step() -> None:
    pace = Pace()
    pace.took(0.2, 0, 100)
    pace.took(0.1, 8, 0)
    assert pace.piece(others=True) == int(SHARE * 0.1 / 0.002)
    pace.took(0.1 + 0.002 * 100, 8, 100)
    assert pace.piece(others=True) == int(SHARE * 0.1 / 0.002)


def test_one_slow_step_says_little_and_many_say_all() -> None:
    pace = Pace()
    pace.took(0.2, 0, 100)
    pace.took(20.0, 0, 100)
    assert pace.piece(others=False) > ALONE / 0.002 / 1.5
    for _ in range(30):
        pace.took(20.0, 0, 100)
    assert pace.piece(others=False) == LEAST


LETTERS = {0: b"Hel", 1: b"lo ", 2: b"\xf0\x9f", 3: b"\xa6\x99", 4: b"!", 5: b"\xc3", 6: b"\xff"}


def decode(ids: Sequence[int]) -> str:
    """Bytes to text, and as sentencepiece does it: no space at the beginning."""
    return b"".join(LETTERS[one] for one in ids).decode(errors="replace")


def test_text_comes_as_soon_as_it_is_certain() -> None:
    words = Words(decode)
    assert [words.push(token) for token in (0, 1, 2, 3, 4)] == ["Hel", "lo ", "", "🦙", "!"]
    assert words.finish() == ""


def test_half_a_character_at_the_end_is_left_out() -> None:
    words = Words(decode)
    assert [words.push(0), words.push(5), words.finish()] == ["Hel", "", ""]


def test_bytes_that_are_no_character_hold_nothing_up_for_long() -> None:
    words = Words(decode)
    text = "".join(words.push(6) for _ in range(12))
    assert len(text) >= 6


def test_a_space_that_a_decoder_drops_at_the_beginning_is_kept_within() -> None:
    parts = {0: " one", 1: " two", 2: " three"}
    words = Words(lambda ids: "".join(parts[one] for one in ids).removeprefix(" "))
    assert [words.push(token) for token in (0, 1, 2)] == ["one", " two", " three"]
