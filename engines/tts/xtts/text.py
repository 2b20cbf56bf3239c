"""Text for XTTS: pieces that it speaks well, the first one soon, in one of the languages that it knows.

XTTS babbles after one or two words, runs on after endings like `?"`, and is cut off beyond a number of characters that
depends on the language. So short sentences go together with what follows, marks that nobody hears go, every piece ends
with a mark that means an end, and long sentences are cut at a comma, or at a space at worst. Numbers, abbreviations
and quotations stay whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterable, Container, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType

from engines.tts.xtts.errors import UnknownLanguage

LIMITS: Mapping[str, int] = MappingProxyType({
    "en": 250, "de": 253, "fr": 273, "es": 239, "it": 213, "pt": 203, "pl": 224, "zh": 82, "ar": 166, "cs": 186,
    "ru": 182, "nl": 251, "tr": 226, "ja": 71, "hu": 224, "ko": 95, "hi": 150,
})  # fmt: skip
"""The languages of XTTS, and how many characters of each it speaks without losing the end."""

_OTHER_TAGS = {"cmn": "zh", "arb": "ar", "jp": "ja"}
"""Tags that mean one of the languages too."""

_CLAUSE_END = re.compile(
    r"[.!?…؟।。！？]+[\"'”’»«“)\]」』]*(?=\s)|[。！？]+[」』”]*|\n+|[,،;؛:](?=\s)|[，、；：]|\s[-–—](?=\s)"
)
_SENTENCE_MARKS = ".!?…؟।。！？\n;؛；"
_CLOSING = "\"'”’»«“)]」』…"
"""What a sentence may go on after, as the next letter tells: `"Really?" she asked.`"""

_COMMON_ABBREVIATIONS = "dr prof st sr jr vs etc no nr ca tel max min approx dept fig inc ltd co vol art"
_ABBREVIATIONS = {
    "en": "mr mrs ms e.g i.e a.m p.m gen col capt lt rev sgt hon ave",
    "de": "hr fr bzw usw evtl ggf inkl exkl str bspw vgl sog mio mrd abs",
    "fr": "m mm mme mlle me av env p.ex",
    "es": "sra srta ud uds dra av pág p.ej ee.uu",
    "it": "sig dott ecc es pag avv ing",
    "pt": "sra dra exmo exma ex pág av",
    "pl": "np tzn itd itp ul al tzw mgr inż godz tys",
    "cs": "např tzv atd apod mj tj č ing mgr ul",
    "ru": "г гг т.е т.д т.п др пр ул стр руб тыс млн млрд им",
    "nl": "dhr mevr bijv enz o.a d.w.z m.a.w blz drs",
    "tr": "vb vs örn sn bkz yy",
    "hu": "pl stb kb ún ld dr id ifj",
}
_ORDINAL_DOTS = frozenset({"de", "cs", "pl", "hu", "tr"})
"""Languages in which a number and a dot are an ordinal more often than a sentence's end."""

_ONE_LETTER = re.compile(r"(?:^|[\W\d_])[^\W\d_]\.$")
_QUOTES = re.compile(r"[\"“”„«»‹›「」『』]")
_ENDS = ".!?؟।。！？"


@dataclass(frozen=True, slots=True)
class Piece:
    """What is spoken in one go.

    Attributes:
        text: As XTTS should read it.
        language: One of `LIMITS`.
        characters: How long it is when spoken, in letters: a digit counts as the word it stands for.
    """

    text: str
    language: str
    characters: float


def language_of(tag: str, known: Container[str] = LIMITS) -> str:
    """The language of XTTS that a BCP 47 tag means: `pt` for `pt-BR`, `zh` for `zh-Hans-CN`.

    Args:
        known: The languages of the checkpoint.

    Raises:
        UnknownLanguage: XTTS, or this checkpoint of it, doesn't speak it.
    """
    spoken = re.split("[-_]", tag.strip().lower())[0]
    language = _OTHER_TAGS.get(spoken, spoken)
    if language not in LIMITS or not (language in known or f"{language}-cn" in known):
        names = ", ".join(name for name in LIMITS if name in known or f"{name}-cn" in known)
        raise UnknownLanguage(f"XTTS doesn't speak '{tag}'; it speaks {names}")
    return language


def codes_per_character(language: str) -> float:
    """How many codes a character of a language takes, at a guess: its limit tells how much one character says."""
    return 350 / LIMITS[language]


async def pieces(text: str | AsyncIterable[str], language: str) -> AsyncGenerator[Piece, None]:
    """The pieces of a text, each as soon as it is complete; nothing for text without a letter or digit.

    Args:
        text: The whole text, or parts of it as they are written.
        language: One of `LIMITS`.
    """
    waiting, first = "", True
    async with aclosing(_parts(text)) as parts:
        async for part, complete in parts:
            waiting += part
            while end := next_end(waiting, language, first=first, complete=complete):
                if spoken := speakable(waiting[:end], language):
                    yield Piece(spoken, language, spoken_length(spoken, language))
                    first = False
                waiting = waiting[end:]


async def _parts(text: str | AsyncIterable[str]) -> AsyncGenerator[tuple[str, bool], None]:
    if isinstance(text, str):
        yield text, True
        return
    async for part in text:
        yield part, False
    yield "", True


def next_end(text: str, language: str, *, first: bool, complete: bool) -> int:
    """Where the next piece of a text ends, 0 where it isn't complete yet.

    Args:
        first: Whether nothing was spoken yet: a clause is enough then.
        complete: Whether nothing more comes.
    """
    limit = LIMITS[language]
    at_worst = 0
    for match in _CLAUSE_END.finditer(text):
        end = match.end()
        if len(text[:end].strip()) > limit:
            break
        before, after = text[:end], text[end:].lstrip()
        if not _ends(before, after, language):
            continue
        at_worst = end
        sentence = any(mark in match.group() for mark in _SENTENCE_MARKS)
        if sentence and before.rstrip()[-1:] in _CLOSING and not complete and not after:
            continue
        if sentence and match.group().strip() and after[:1].islower():
            sentence = False
        long_enough = _letters(before) >= _short(language)
        if (sentence or first) and long_enough and not _within_quotes(before):
            rest_is_short = complete and _letters(after) < _short(language) and len(text.strip()) <= limit
            return len(text) if rest_is_short else end
    if len(text.strip()) <= limit:
        return len(text) if complete else 0
    return at_worst if _letters(text[:at_worst]) >= _short(language) else _last_space(text, limit)


def speakable(text: str, language: str) -> str:
    """A piece as XTTS should read it; empty where there is nothing to be read."""
    text = text.replace("’", "'").replace("…", "...")
    text = _QUOTES.sub(" ", text)
    text = re.sub(r"^\s*[-–—*•]+\s+", "", text)
    text = re.sub(r"(?<=\w)[ \t]*\n\s*(?:[-–—*•]+\s+)?(?=\w)", ", ", text)  # lines of a list
    text = "".join(" " if unicodedata.category(each) in _UNHEARD else each for each in text)
    text = re.sub(r"(?<!\w)[*_~#`|]+|[*_~#`|]+(?!\w)", " ", text)
    text = re.sub(r"\s*\.\.\.+(?=\s*\S)", ",", text)
    text = re.sub(r"([!?])[.!?]+|([.])[.]+", r"\1\2", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s+([.,!?;:])(?=\s|$)", r"\1", text)
    if not any(each.isalnum() for each in text):
        return ""
    text = re.sub(r"(?<=[.!?。！？])[\s)\]']+$", "", text)
    if text[-1] in _ENDS or text[-1] in ",،，、":
        return text
    text = text.rstrip(" -–—;:；：؛([")
    return text + ("。" if language in ("zh", "ja") else "।" if language == "hi" else ".")


_UNHEARD = frozenset({"So", "Sk", "Cs", "Co", "Cn", "Cc", "Cf"})
"""Kinds of characters that nobody can say: emoji, control characters."""


def spoken_length(text: str, language: str) -> float:
    """How long a text is when spoken, in letters of its language."""
    written_out = 1.5 if language in ("zh", "ja", "ko") else 5.0
    return sum(
        written_out if each.isdigit() or each in "%$€£¥&@+=°" else 1.0 if each.isalpha() else 0.3
        for each in text
        if not each.isspace()
    )


def _ends(before: str, after: str, language: str) -> bool:
    """Whether a mark ends a clause, and doesn't belong to a number or an abbreviation."""
    written = before.rstrip()
    if written[-1:] in "-–—,:" and re.search(r"\d\s*.$", written) and after[:1].isdigit():
        return False
    if not written.endswith("."):
        return True
    if re.search(r"\d\.$", written):
        return language not in _ORDINAL_DOTS
    if _ONE_LETTER.search(written):
        return False
    word = re.split(r"[\s(\"“„«]", written[:-1])[-1].lower()
    if word == "no":
        return bool(after) and not after[0].isdigit()
    return word not in f"{_COMMON_ABBREVIATIONS} {_ABBREVIATIONS.get(language, '')}".split()


def _within_quotes(text: str) -> bool:
    """Whether a quotation is open at the text's end."""
    paired = sum(text.count(mark) for mark in "„「『") - sum(text.count(mark) for mark in "」』")
    curly = text.count("“") - text.count("”") if "„" not in text else -text.count("“")
    angled = abs(text.count("«") - text.count("»"))
    return text.count('"') % 2 == 1 or paired + curly > 0 or angled > 0


def _letters(text: str) -> int:
    return sum(each.isalnum() for each in text)


def _short(language: str) -> int:
    """Letters under which XTTS tends to babble: about three short words."""
    return round(LIMITS[language] / 25)


def _last_space(text: str, limit: int) -> int:
    """The last place up to the limit where no word and no number is torn; the limit where there is none."""
    for space in reversed([match.end() for match in re.finditer(r"\s+", text[: limit + 1])]):
        around = text[:space].rstrip()[-1:] + text[space : space + 1]
        if around.strip() and not around.isdigit() and not around.startswith("."):
            return space
    digits = re.search(r"\d[\d.,]*$", text[:limit])
    return digits.start() if digits and digits.start() else limit
