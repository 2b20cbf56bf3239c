"""Text for XTTS: pieces are cut where they may be, and read so that they end."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from engines.tts.xtts.errors import UnknownLanguage
from engines.tts.xtts.text import LIMITS, codes_per_character, language_of, pieces, speakable, spoken_length
from engines.types import EngineBadInput


async def cut(text: str | list[str], language: str = "en") -> list[str]:
    async def parts() -> AsyncIterator[str]:
        for part in text:
            yield part

    return [piece.text async for piece in pieces(text if isinstance(text, str) else parts(), language)]


async def test_the_first_clause_leaves_first_and_sentences_follow() -> None:
    assert await cut("Well, that is the question, of course. Then, after a while, it ends. And so do we all.") == [
        "Well, that is the question,",
        "of course. Then, after a while, it ends.",
        "And so do we all.",
    ]


async def test_the_first_piece_leaves_before_the_second_is_written() -> None:
    arrived: list[str] = []

    async def writing() -> AsyncIterator[str]:
        for part in ("I think", " so", ", ", "but", " who", " knows."):
            arrived.append(part)
            yield part

    async for piece in pieces(writing(), "en"):
        assert piece.text == "I think so, but who knows."
        break
    arrived.clear()

    async def slowly() -> AsyncIterator[str]:
        for part in ("I really think so", ", ", "but", " who", " knows."):
            arrived.append(part)
            yield part

    async for piece in pieces(slowly(), "en"):
        assert piece.text == "I really think so,"
        break
    assert arrived == ["I really think so", ", "]


@pytest.mark.parametrize(
    ("language", "whole"),
    [
        ("en", "It costs 3.50 or 1,000,000 dollars today."),
        ("en", "Dr. Miller and Mrs. Jones are here."),
        ("en", "Take some fruit, e.g. Apples from J. R. Smith."),
        ("en", "We live in house No. 5 on Main St. Peter's way."),
        ("en", "The range is 3 - 5 metres at 10:30 p.m. Eastern time."),
        ("en", 'He said "This is it. We are done. Go home." and left.'),
        ("en", '"Are you really sure?" she asked him.'),
        ("en", "He said “This is it. We are done.” and left us."),
        ("de", "Am 3. Mai kommt Hr. Schmidt z. B. mit der Bahn."),
        ("de", "Er sagte: „Das war es. Wir gehen jetzt.“ und ging."),
        ("fr", "Voici M. Dupont et Mme. Durand, env. Cinq minutes plus tard."),
        ("fr", "Il a dit « C'est fini. On rentre. » et il est parti."),
        ("es", "El Sr. García y la Sra. López viven aquí."),
        ("ru", "Он родился в 1900 г. В Москве тогда жили."),
        ("cs", "Sešli se 5. Května ve městě."),
    ],
)
async def test_numbers_abbreviations_and_quotations_stay_whole(language: str, whole: str) -> None:
    made = await cut(list("So be it and so it is. " + whole), language)
    assert len(made) == 2
    assert made[1].replace(" ", "") == speakable(whole, language).replace(" ", "")


async def test_short_sentences_go_with_what_follows() -> None:
    assert await cut("Yes. No. I never said that to anybody. Never. I mean it.") == [
        "Yes. No. I never said that to anybody.",
        "Never. I mean it.",
    ]
    assert await cut("1. Buy milk and bread. 2. Go home by train.") == [
        "1. Buy milk and bread.",
        "2. Go home by train.",
    ]


async def test_a_short_last_sentence_goes_with_the_one_before() -> None:
    assert await cut("I shall come with you tomorrow. Yes.") == ["I shall come with you tomorrow. Yes."]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('He asked "why?"', "He asked why?"),
        ("He asked “why?”", "He asked why?"),
        ("Really?!?!", "Really?"),
        ("Yes", "Yes."),
        ("Well - ", "Well."),
        ("and then...", "and then."),
        ("Well... maybe", "Well, maybe."),
        ("Hello 👋 world! 🎉", "Hello world!"),
        ("That is **really** good", "That is really good."),
        ("It's John’s", "It's John's."),
        ("(He said so.)", "(He said so."),
        ("first of all,", "first of all,"),
        ("- one apple\n- two pears\n\nEnjoy", "one apple, two pears, Enjoy."),
        ('?" --', ""),
    ],
)
def test_a_piece_ends_with_a_mark_that_means_an_end(written: str, read: str) -> None:
    assert speakable(written, "en") == read


@pytest.mark.parametrize(("language", "end"), [("zh", "。"), ("ja", "。"), ("hi", "।"), ("ko", "."), ("ar", ".")])
def test_the_end_is_marked_as_the_language_does(language: str, end: str) -> None:
    assert speakable("你好", language) == "你好" + end


async def test_chinese_and_japanese_are_cut_without_spaces() -> None:
    assert await cut("你好，我是你的助手。今天天气很好。我们走吧，好吗？", "zh") == [
        "你好，我是你的助手。",
        "今天天气很好。",
        "我们走吧，好吗？",
    ]
    assert await cut("はい、わかりました。すぐに行きます。", "ja") == ["はい、わかりました。", "すぐに行きます。"]


async def test_arabic_and_hindi_marks_end_sentences() -> None:
    assert len(await cut("كيف حالك اليوم يا صديقي؟ أنا بخير والحمد لله. شكرا جزيلا لك.", "ar")) == 3
    assert len(await cut("मैं आज घर जा रहा हूँ। तुम कल आना। हम साथ चलेंगे।", "hi")) >= 2


@pytest.mark.parametrize("language", LIMITS)
@pytest.mark.parametrize("seed", range(5))
async def test_no_piece_exceeds_the_limit_and_no_word_is_lost(language: str, seed: int) -> None:
    chance = random.Random(seed)
    words = [
        "".join(chance.choices("abcdefg", k=chance.randint(2, 12)))
        + chance.choice(["", "", "", ",", ".", "?", " 12 500"])
        for _ in range(300)
    ]
    text = " ".join(words)
    made = await cut(text, language)
    assert max(map(len, made)) <= LIMITS[language] + 1
    assert [each.strip(".,?。।") for each in " ".join(made).split()] == [each.strip(".,?") for each in text.split()]
    assert not any(piece.rstrip(".,?。।").endswith(" 12") for piece in made)


async def test_endless_text_without_spaces_is_cut_all_the_same() -> None:
    for language in ("en", "zh"):
        made = await cut("好" * 1000, language)
        assert sum(piece.count("好") for piece in made) == 1000
        assert max(map(len, made)) <= LIMITS[language] + 1


@pytest.mark.parametrize("text", ["", "   ", "...", "?! --", "\n\n", '"', "👋"])
async def test_text_without_a_letter_or_digit_gives_nothing(text: str) -> None:
    assert await cut(text) == []
    assert await cut(list(text)) == []


async def test_text_in_parts_loses_nothing_against_whole_text() -> None:
    text = 'Sure! I can do that, of course. "What else?" you may ask. Well... 3.5 times 2 is 7. Good.'
    assert " ".join(await cut(list(text))) == " ".join(await cut(text))


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("en", "en"),
        ("en-US", "en"),
        ("pt_BR", "pt"),
        ("zh-CN", "zh"),
        ("zh-Hant-TW", "zh"),
        ("cmn", "zh"),
        ("DE", "de"),
    ],
)
def test_language_tags_mean_one_of_the_languages(tag: str, language: str) -> None:
    assert language_of(tag) == language


def test_a_language_that_is_not_spoken_is_named() -> None:
    with pytest.raises(UnknownLanguage, match="doesn't speak 'sv-SE'; it speaks en, de, fr") as refused:
        language_of("sv-SE")
    assert isinstance(refused.value, EngineBadInput)
    with pytest.raises(UnknownLanguage, match="it speaks en, zh"):
        language_of("de", ["en", "zh-cn"])
    assert language_of("zh", ["en", "zh-cn"]) == "zh"


def test_there_are_seventeen_languages() -> None:
    assert len(LIMITS) == 17


def test_what_is_written_short_and_spoken_long_counts_as_long() -> None:
    assert spoken_length("2025", "en") > 3 * spoken_length("year", "en")
    assert spoken_length("a b", "en") == 2
    assert codes_per_character("zh") > 2.5 * codes_per_character("en")
