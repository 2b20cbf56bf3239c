"""Text is cut where a voice can begin, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engines.tts.clauses import LONGEST, clauses


async def cut(text: str | list[str]) -> list[str]:
    async def pieces() -> AsyncIterator[str]:
        for piece in text:
            yield piece

    return [clause async for clause in clauses(text if isinstance(text, str) else pieces())]


async def test_the_first_clause_is_short_and_the_others_are_sentences() -> None:
    assert await cut("Well, that is it. Then, after a while, it ends.") == [
        "Well,",
        "that is it.",
        "Then, after a while, it ends.",
    ]


@pytest.mark.parametrize(
    "whole",
    [
        "It costs 3.50 today.",
        "Dr. Miller and Mrs. Jones are here.",
        "Take fruit, e.g. apples.",
        "J. R. Smith wrote it.",
    ],
)
async def test_numbers_abbreviations_and_initials_stay_whole(whole: str) -> None:
    assert " ".join(await cut("So be it. " + whole)) == "So be it. " + whole
    assert (await cut("So be it. " + whole))[1] == whole


async def test_text_in_pieces_is_cut_like_whole_text() -> None:
    text = "Sure! I can do that, of course. What else would you like?"
    assert await cut(list(text)) == await cut(text)


async def test_a_clause_leaves_before_the_next_sentence_is_complete() -> None:
    arrived: list[str] = []

    async def writing() -> AsyncIterator[str]:
        for piece in ("Sure", "! ", "And", " then", " more."):
            arrived.append(piece)
            yield piece

    async for clause in clauses(writing()):
        assert clause == "Sure!"
        break
    assert arrived == ["Sure", "! "]


@pytest.mark.parametrize("text", ["", "   ", "...", "?! --", "\n\n"])
async def test_text_without_a_letter_or_digit_gives_nothing(text: str) -> None:
    assert await cut(text) == []


async def test_endless_text_is_cut_all_the_same_and_keeps_every_word() -> None:
    text = "word " * 300
    made = await cut(text)
    assert max(map(len, made)) <= LONGEST
    assert " ".join(made).split() == text.split()
