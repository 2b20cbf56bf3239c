"""The embedded voice, judged by its sound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from engines.tts.espeak import Espeak
from engines.types import DEFAULT_VOICE, SPOKEN_RATE, Audio, EngineBadInput, Voice


async def said(text: str | AsyncIterator[str], voice: Voice = DEFAULT_VOICE, language: str | None = None) -> Audio:
    pieces = [piece async for piece in Espeak().speak(text, voice, language)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def pitch(sound: Audio) -> float:
    """Fundamental frequency in Hz of the loudest 40 ms, by autocorrelation."""
    size = SPOKEN_RATE // 25
    frames = sound[: len(sound) // size * size].reshape(-1, size)
    frame = frames[np.argmax((frames**2).mean(axis=1))]
    alike = np.correlate(frame, frame, "full")[size - 1 :]
    low, high = SPOKEN_RATE // 400, SPOKEN_RATE // 60
    return SPOKEN_RATE / (low + int(np.argmax(alike[low:high])))


async def test_speech_lasts_as_long_as_its_words_and_can_be_heard() -> None:
    sound = await said("One two three four five six seven eight nine ten.")
    assert sound.dtype == np.float32
    assert 2.0 < len(sound) / SPOKEN_RATE < 6.0
    assert 0.05 < float(np.sqrt(np.mean(sound**2))) < 0.5
    assert float(np.abs(sound).max()) <= 1.0


async def test_speech_begins_without_silence_to_wait_for() -> None:
    sound = await said("Yes, of course.")
    assert np.flatnonzero(np.abs(sound) > 0.003)[0] < 0.01 * SPOKEN_RATE


async def test_pieces_join_without_a_click() -> None:
    pieces = [piece async for piece in Espeak().speak("Many long words follow one another here")]
    assert len(pieces) > 5
    whole = np.concatenate(pieces)
    steps = np.abs(np.diff(whole))
    borders = np.cumsum([len(piece) for piece in pieces])[:-1]
    assert max(steps[border - 1] for border in borders) <= np.quantile(steps, 0.999)


async def test_the_same_text_in_pieces_sounds_the_same() -> None:
    async def letters() -> AsyncIterator[str]:
        for letter in "Good morning. How are you?":
            yield letter

    # eSpeak NG varies lengths by a few milliseconds with what it said before.
    assert len(await said(letters())) == pytest.approx(len(await said("Good morning. How are you?")), rel=0.03)


async def test_rate_and_pitch_are_heard() -> None:
    text = "This is how fast and how high I speak."
    normal = await said(text)
    assert len(await said(text, Voice("v", "V", rate=1.5))) < 0.8 * len(normal)
    assert pitch(await said(text, Voice("v", "V", pitch=1.8))) > 1.15 * pitch(normal)


async def test_voices_differ() -> None:
    text = "Everybody sounds like somebody."
    man = await said(text, Voice("m", "M", engines={"espeak": "en-us+m3"}))
    woman = await said(text, Voice("f", "F", engines={"espeak": "en-us+f3"}))
    assert abs(pitch(man) - pitch(woman)) > 20


async def test_a_language_is_spoken_by_its_own_voice_and_an_unknown_one_is_refused() -> None:
    assert len(await said("Guten Morgen, wie geht es dir?", language="de-DE")) > SPOKEN_RATE
    with pytest.raises(EngineBadInput, match="no voice 'zz'"):
        await said("hello", language="zz")
    with pytest.raises(EngineBadInput, match="no voice 'nobody'"):
        await said("hello", Voice("n", "N", engines={"espeak": "nobody"}))


@pytest.mark.parametrize("language", ["zh", "zh-CN", "pt-BR", "no", "fr_CA"])
async def test_languages_are_known_by_their_usual_tags(language: str) -> None:
    assert len(await said("1 2 3 4 5", language=language)) > SPOKEN_RATE / 2


@pytest.mark.parametrize("text", ["", " ", "...", "!?"])
async def test_nothing_to_say_is_said_without_complaint(text: str) -> None:
    assert len(await said(text)) == 0


async def test_markup_is_spoken_as_text_and_not_obeyed() -> None:
    plain = await said("hello")
    marked = await said('<break time="5s"/> hello')
    assert len(marked) / SPOKEN_RATE < 5
    assert len(marked) > len(plain)


async def test_closing_stops_at_once_and_frees_the_place() -> None:
    engine = Espeak()
    speech = engine.speak("a very long text without an end " * 400)
    await anext(speech)
    assert engine.capacity.held == 1
    await speech.aclose()
    assert engine.capacity.held == 0
    assert len([piece async for piece in engine.speak("next")]) > 0


async def test_several_speak_at_once_without_mixing() -> None:
    texts = ["one", "two and two", "three and three and three"]
    alone = [len(await said(text)) for text in texts]
    together = await asyncio.gather(*(said(text) for text in texts))
    assert [len(sound) for sound in together] == pytest.approx(alone, rel=0.03)
