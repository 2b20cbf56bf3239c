"""`AudioSpeechDetector` with its defaults on real speech (flite), scaled to a peak RMS of 0.3."""

from __future__ import annotations

import numpy as np
import pytest

from conversation.speech_detector import AudioSpeechDetector, Utterance
from tests.speech import spoken

RATE = 16_000
SENTENCES = ("what is the weather like today", "my name is robin and i live by the sea", "tell me about the moon")
PEAK = 0.3


def silence(seconds: float, noise: float = 0.002) -> np.ndarray:
    """A quiet room."""
    return np.random.default_rng(7).normal(0, noise, round(seconds * RATE)).astype(np.float32)


def heard(detector: AudioSpeechDetector, sound: np.ndarray, chunk: int = 320) -> list[Utterance]:
    found = []
    for at in range(0, len(sound), chunk):
        found += detector.process_audio(sound[at : at + chunk])
    return found


def energy(audio: np.ndarray) -> float:
    return float(np.sum(audio.astype(np.float64) ** 2))


@pytest.mark.parametrize("voice", ["awb", "rms", "kal16"])
def test_each_sentence_is_one_utterance_that_holds_nearly_all_its_sound(voice: str) -> None:
    speech = [spoken(sentence, voice, peak_rms=PEAK) for sentence in SENTENCES]
    sound = np.concatenate([piece for each in speech for piece in (silence(1.0), each)] + [silence(1.0)])
    utterances = heard(AudioSpeechDetector(), sound)
    assert len(utterances) == len(SENTENCES)
    for utterance, whole in zip(utterances, speech, strict=True):
        assert energy(utterance.audio) > 0.98 * energy(whole)
        assert 0.3 <= utterance.speech <= len(whole) / RATE


@pytest.mark.parametrize("voice", ["awb", "rms", "kal16"])
def test_onsets_are_within_the_pre_roll(voice: str) -> None:
    speech = spoken(SENTENCES[0], voice, peak_rms=PEAK)
    (utterance,) = heard(AudioSpeechDetector(), np.concatenate((silence(1.0), speech, silence(1.0))))
    audible = np.flatnonzero(np.abs(speech) > 0.03)[0] / RATE + 1.0
    assert utterance.speech_start - 0.2 <= audible + 0.02


def test_speech_as_quiet_as_kal16_makes_it_needs_a_lower_threshold() -> None:
    sound = np.concatenate((silence(0.5), spoken(SENTENCES[0], "kal16"), silence(1.0)))
    assert heard(AudioSpeechDetector(), sound) == []
    assert len(heard(AudioSpeechDetector(energy_threshold=0.03), sound)) == 1


@pytest.mark.parametrize("chunk", [160, 333, 4096])
def test_chunking_changes_nothing(chunk: int) -> None:
    sound = np.concatenate((silence(0.7), spoken(SENTENCES[1], peak_rms=PEAK), silence(0.9)))
    (expected,) = heard(AudioSpeechDetector(), sound, len(sound))
    (utterance,) = heard(AudioSpeechDetector(), sound, chunk)
    assert utterance.pcm == expected.pcm


def test_speech_without_a_pause_is_cut_at_ten_seconds_and_goes_on_in_the_next() -> None:
    words = spoken("one two three four five six seven eight nine ten", peak_rms=PEAK)
    sound = np.concatenate((np.tile(words, 4), silence(1.0)))
    utterances = heard(AudioSpeechDetector(max_silence_duration=1.0), sound)
    assert [utterance.cut for utterance in utterances] == [True] * (len(utterances) - 1) + [False]
    assert len(utterances) > 1
    assert all(len(utterance.audio) <= 10 * RATE for utterance in utterances)
    assert sum(energy(utterance.audio) for utterance in utterances) > 0.98 * energy(sound)
