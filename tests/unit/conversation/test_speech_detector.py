"""`AudioSpeechDetector` on made-up sound: each parameter, any chunking, its state."""

from __future__ import annotations

import inspect
import random

import numpy as np
import pytest

from conversation.speech_detector import PRE_ROLL, AudioSpeechDetector, SpeechEnded, SpeechStarted, Utterance

RATE = 16_000


def tone(seconds: float, rms: float = 0.3, rate: int = RATE) -> np.ndarray:
    """A square wave, whose RMS is its height."""
    samples = np.arange(round(seconds * rate))
    return np.where(samples // 20 % 2, rms, -rms).astype(np.float32)


def silence(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.zeros(round(seconds * rate), np.float32)


def sound(*pieces: np.ndarray) -> np.ndarray:
    return np.concatenate(pieces)


def pcm(audio: np.ndarray) -> bytes:
    return np.round(audio * 32767).astype("<i2").tobytes()


def seconds(utterance: Utterance, rate: int = RATE) -> float:
    return len(utterance.audio) / rate


def test_its_parameters_and_defaults_are_those_of_the_old_system() -> None:
    parameters = inspect.signature(AudioSpeechDetector).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "sample_rate": 16_000,
        "energy_threshold": 0.1,
        "min_speech_duration": 0.3,
        "max_silence_duration": 0.4,
        "max_recording_duration": 10.0,
    }


def test_speech_between_silences_is_one_utterance_with_its_onset() -> None:
    detector = AudioSpeechDetector()
    (utterance,) = detector.process_audio(sound(silence(1.0), tone(0.8), silence(1.0)))
    assert utterance.speech_start == pytest.approx(1.0)
    assert utterance.speech_end == pytest.approx(1.8)
    assert utterance.speech == pytest.approx(0.8)
    assert seconds(utterance) == pytest.approx(PRE_ROLL + 0.8 + 0.4)
    assert not utterance.cut
    assert np.abs(utterance.audio[round(PRE_ROLL * RATE)]) == pytest.approx(0.3)
    assert not utterance.audio[: round(PRE_ROLL * RATE)].any()


def test_an_utterance_is_given_as_soon_as_the_silence_is_long_enough() -> None:
    detector = AudioSpeechDetector(max_silence_duration=0.4)
    assert detector.process_audio(sound(tone(0.5), silence(0.39))) == []
    assert len(detector.process_audio(silence(0.02))) == 1


@pytest.mark.parametrize(("loudness", "heard"), [(0.05, 0), (0.0999, 0), (0.1001, 1), (0.3, 1)])
def test_energy_threshold(loudness: float, heard: int) -> None:
    assert len(AudioSpeechDetector().process_audio(sound(tone(0.5, loudness), silence(0.5)))) == heard


def test_a_lower_threshold_hears_quieter_speech() -> None:
    quiet = sound(tone(0.5, 0.05), silence(0.5))
    assert len(AudioSpeechDetector(energy_threshold=0.04).process_audio(quiet)) == 1


@pytest.mark.parametrize(("length", "heard"), [(0.02, 0), (0.28, 0), (0.3, 1), (0.5, 1)])
def test_min_speech_duration(length: float, heard: int) -> None:
    assert len(AudioSpeechDetector().process_audio(sound(silence(0.5), tone(length), silence(0.5)))) == heard


def test_what_was_too_short_is_dropped_and_the_next_utterance_is_whole() -> None:
    detector = AudioSpeechDetector()
    events = detector.feed(sound(tone(0.1), silence(0.5), tone(0.6), silence(0.5)))
    assert [type(event) for event in events] == [SpeechStarted, SpeechEnded, SpeechStarted, SpeechEnded]
    first, second = (event.utterance for event in events if isinstance(event, SpeechEnded))
    assert first is None
    assert second is not None
    assert second.speech_start == pytest.approx(0.6)


@pytest.mark.parametrize(("pause", "utterances"), [(0.1, 1), (0.38, 1), (0.4, 2), (0.8, 2)])
def test_max_silence_duration(pause: float, utterances: int) -> None:
    detector = AudioSpeechDetector()
    assert len(detector.process_audio(sound(tone(0.5), silence(pause), tone(0.5), silence(0.6)))) == utterances


def test_max_recording_duration_cuts_speech_and_loses_none_of_it() -> None:
    detector = AudioSpeechDetector(max_recording_duration=2.0)
    whole = sound(silence(1.0), tone(5.1), silence(1.0))
    utterances = detector.process_audio(whole)
    assert all(seconds(utterance) <= 2.0 for utterance in utterances)
    assert [utterance.cut for utterance in utterances] == [True, True, False]
    joined = np.concatenate([utterance.audio for utterance in utterances])
    begin = round((1.0 - PRE_ROLL) * RATE)
    assert joined.tolist() == whole[begin : begin + len(joined)].tolist()
    assert sum(utterance.speech for utterance in utterances) == pytest.approx(5.1)


def test_the_rest_of_a_cut_utterance_counts_however_short_it_is() -> None:
    detector = AudioSpeechDetector(max_recording_duration=1.0)
    utterances = detector.process_audio(sound(tone(1.1), silence(1.0)))
    assert [round(utterance.speech, 2) for utterance in utterances] == [1.0, 0.1]


def test_other_sample_rates() -> None:
    detector = AudioSpeechDetector(sample_rate=44_100)
    whole = sound(silence(0.5, 44_100), tone(1.0, rate=44_100), silence(0.5, 44_100))
    (utterance,) = detector.process_audio(whole)
    assert utterance.speech == pytest.approx(1.0, abs=0.03)
    assert seconds(utterance, 44_100) == pytest.approx(1.6, abs=0.03)


@pytest.mark.parametrize("seed", range(10))
def test_any_chunking_gives_the_same_utterances(seed: int) -> None:
    chance = random.Random(seed)
    whole = pcm(sound(silence(0.3), tone(0.9), silence(0.7), tone(0.4), silence(0.41), tone(0.1), silence(0.6)))
    expected = AudioSpeechDetector().process_audio(whole)
    detector, found, at = AudioSpeechDetector(), [], 0
    while at < len(whole):
        size = chance.choice([1, 3, 7, 319, 320, 641, 5000])
        found += detector.process_audio(whole[at : at + size])
        at += size
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        assert one.pcm == other.pcm
        assert (one.speech_start, one.speech_end) == (other.speech_start, other.speech_end)


def test_bytes_and_arrays_mean_the_same_sound() -> None:
    whole = np.round(sound(silence(0.3), tone(0.5), silence(0.5)) * 32767).astype(np.int16)
    forms = [
        whole,
        whole.tobytes(),
        bytearray(whole.tobytes()),
        memoryview(whole.tobytes()),
        whole.astype(np.float32) / 32768,
        whole.astype(np.float64) / 32768,
    ]
    pcms = [[utterance.pcm for utterance in AudioSpeechDetector().process_audio(form)] for form in forms]
    assert all(each == pcms[0] for each in pcms)
    assert len(pcms[0]) == 1
    assert pcms[0][0] in whole.tobytes()


def test_wrong_sound_is_refused_with_the_fix() -> None:
    detector = AudioSpeechDetector()
    with pytest.raises(TypeError, match="not str"):
        detector.process_audio("hello")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not an array of int32"):
        detector.process_audio(np.zeros(10, np.int32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"mono, an array of shape \(n,\), not \(10, 2\)"):
        detector.process_audio(np.zeros((10, 2), np.float32))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"sample_rate": 0}, "sample_rate"),
        ({"energy_threshold": -0.1}, "energy_threshold"),
        ({"energy_threshold": float("nan")}, "energy_threshold"),
        ({"min_speech_duration": -1}, "min_speech_duration"),
        ({"max_silence_duration": float("inf")}, "max_silence_duration"),
        ({"max_recording_duration": 0}, "max_recording_duration"),
        ({"max_recording_duration": 0.2}, "no less than min_speech_duration"),
    ],
)
def test_parameters_that_make_no_sense_are_named(wrong: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        AudioSpeechDetector(**wrong)  # type: ignore[arg-type]


def test_its_state_can_be_read_while_it_listens() -> None:
    detector = AudioSpeechDetector()
    assert (detector.state, detector.time, detector.recording_duration) == ("silence", 0.0, 0.0)
    detector.process_audio(sound(silence(1.0), tone(0.5), silence(0.1)))
    assert detector.state == "speech"
    assert detector.time == pytest.approx(1.6)
    assert detector.speech_duration == pytest.approx(0.5)
    assert detector.silence_duration == pytest.approx(0.1)
    assert detector.recording_duration == pytest.approx(PRE_ROLL + 0.6)
    detector.process_audio(silence(0.4))
    assert (detector.state, detector.speech_duration, detector.silence_duration) == ("silence", 0.0, 0.0)


def test_flush_gives_what_is_under_way_to_its_last_sample() -> None:
    detector = AudioSpeechDetector()
    whole = sound(silence(0.5), tone(0.507))
    assert detector.process_audio(whole) == []
    utterance = detector.flush()
    assert utterance is not None
    assert utterance.audio.tolist() == whole[round((0.5 - PRE_ROLL) * RATE) :].tolist()
    assert detector.state == "silence"
    assert detector.flush() is None


def test_flush_drops_what_is_too_short() -> None:
    detector = AudioSpeechDetector()
    detector.process_audio(tone(0.2))
    assert detector.flush() is None


def test_reset_forgets_everything() -> None:
    detector = AudioSpeechDetector()
    detector.process_audio(pcm(sound(silence(0.3), tone(0.5))) + b"\x01")
    detector.reset()
    assert (detector.state, detector.time) == ("silence", 0.0)
    (utterance,) = detector.process_audio(pcm(sound(tone(0.5), silence(0.5))))
    assert utterance.speech_start == 0.0
    assert seconds(utterance) == pytest.approx(0.9)


def test_windows_are_judged_without_following_utterances() -> None:
    detector = AudioSpeechDetector()
    windows = list(detector.windows(sound(silence(0.04), tone(0.05))))
    assert [window.speech for window in windows] == [False, False, True, True]
    assert [window.end for window in windows] == pytest.approx([0.02, 0.04, 0.06, 0.08])
    assert [window.rms for window in windows] == pytest.approx([0, 0, 0.3, 0.3], abs=1e-6)
    assert all(len(window.samples) == 320 for window in windows)
    assert detector.state == "silence"
    assert len(list(detector.windows(tone(0.01)))) == 1


def test_an_empty_chunk_changes_nothing() -> None:
    detector = AudioSpeechDetector()
    assert detector.process_audio(b"") == []
    assert detector.process_audio(np.zeros(0, np.float32)) == []
