"""The console's parts, without a terminal and without sound hardware."""

from __future__ import annotations

import asyncio
import io
import sys
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from livekit import rtc

from agent.console import TextScreen, read_lines
from agent.console_audio import FRAME, AudioError, Echo, Loudspeaker, Microphone, _streams, list_devices, portaudio
from engines.types import HEARD_RATE, SPOKEN_RATE


def test_the_agents_words_are_printed_as_they_come_and_the_users_are_there_already() -> None:
    printed: list[str] = []
    screen = TextScreen(printed.append)
    screen.transcript("user", "Hello", True)
    for words, final in (("Well", False), ("Well, hi", False), ("Well, hi.", True)):
        screen.transcript("agent", words, final)
    screen.error("full", "no place")
    assert "".join(printed) == "agent: Well, hi.\nerror: no place (full)\n"
    assert len(printed) > 3


def test_spoken_words_of_the_user_are_printed_once_they_are_final() -> None:
    printed: list[str] = []
    screen = TextScreen(printed.append, show_user=True)
    screen.transcript("user", "what is", False)
    screen.transcript("user", "what is it", True)
    assert "".join(printed) == "you:   what is it\n"


async def test_lines_are_read_to_the_end_of_input() -> None:
    assert [line async for line in read_lines(io.StringIO("one\n\ntwo"))] == ["one\n", "\n", "two"]


def sound(seconds: float, rate: int, value: int = 1000) -> bytes:
    return np.full(int(seconds * rate), value, dtype=np.int16).tobytes()


async def test_the_loudspeaker_plays_what_it_was_given_and_silence_after_it() -> None:
    loudspeaker = Loudspeaker(Echo())
    whole = np.arange(720, dtype=np.int16)
    for part in (whole[:500], whole[500:]):
        await loudspeaker.write(rtc.AudioFrame(part.tobytes(), SPOKEN_RATE, 1, len(part)))
    size = int(SPOKEN_RATE * FRAME) * 2
    played = b"".join(loudspeaker.pull(size) for _ in range(4))
    assert played == whole.tobytes() + bytes(size)


async def test_the_loudspeaker_drops_what_it_has_not_played() -> None:
    loudspeaker = Loudspeaker(Echo())
    half = sound(0.5, SPOKEN_RATE)
    await loudspeaker.write(rtc.AudioFrame(half, SPOKEN_RATE, 1, len(half) // 2))
    loudspeaker.pull(int(SPOKEN_RATE * FRAME) * 2)
    assert loudspeaker.clear() == pytest.approx(0.49)
    assert loudspeaker.pull(480) == bytes(480)
    assert loudspeaker.clear() == 0.0


async def test_the_microphone_hands_over_what_it_hears_from_another_thread() -> None:
    microphone = Microphone(Echo())
    heard = sound(FRAME, HEARD_RATE)
    await asyncio.to_thread(microphone.push, heard)
    frame = await asyncio.wait_for(anext(microphone), 1)
    assert (frame.sample_rate, frame.num_channels, frame.samples_per_channel) == (HEARD_RATE, 1, 160)


async def test_the_loudspeakers_sound_is_taken_out_of_the_microphones() -> None:
    echo = Echo()
    noise = np.random.default_rng(1)
    before, after = 0.0, 0.0
    for index in range(300):
        played = (noise.standard_normal(240) * 4000).clip(-32768, 32767).astype(np.int16)
        echo.played(played.tobytes())
        # The microphone hears it at two thirds of the rate, half as loud.
        heard = (np.interp(np.arange(160) * 1.5, np.arange(240), played) * 0.5).astype(np.int16)
        left = np.frombuffer(echo.heard(heard.tobytes()).data, dtype=np.int16)
        if index >= 200:
            before += float(np.mean(heard.astype(np.float64) ** 2))
            after += float(np.mean(left.astype(np.float64) ** 2))
    assert after < before / 10


class PortAudio(ModuleType):
    """PortAudio with devices that can't be opened."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.opened: list[dict[str, Any]] = []

    def RawOutputStream(self, **wanted: Any) -> Any:
        self.opened.append(wanted)
        raise self.PortAudioError("no such device")

    def query_devices(self) -> str:
        return "  0 Microphone"


async def test_a_device_that_cannot_be_opened_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    library = PortAudio()
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    assert portaudio() is library
    assert list_devices() == "  0 Microphone"
    echo = Echo()
    with pytest.raises(AudioError, match="--list-devices"):
        _streams(library, Microphone(echo), Loudspeaker(echo), None, "3")
    assert library.opened[0]["device"] == 3


class Stream:
    """A stream of PortAudio's that calls back when it is told to."""

    def __init__(self, opened: dict[str, Any], **wanted: Any) -> None:
        self.wanted = wanted
        self.running = False
        opened["in" if wanted["samplerate"] == HEARD_RATE else "out"] = self

    def __enter__(self) -> Stream:
        self.running = True
        return self

    def __exit__(self, *error: object) -> None:
        self.running = False


async def test_portaudios_callbacks_carry_sound_both_ways_ten_milliseconds_at_a_time() -> None:
    opened: dict[str, Stream] = {}
    library = PortAudio()
    library.RawOutputStream = library.RawInputStream = partial(Stream, opened)  # type: ignore[method-assign]
    echo = Echo()
    microphone, loudspeaker = Microphone(echo), Loudspeaker(echo)
    said = sound(FRAME, SPOKEN_RATE)
    await loudspeaker.write(rtc.AudioFrame(said, SPOKEN_RATE, 1, len(said) // 2))
    with _streams(library, microphone, loudspeaker, "USB", None):
        assert opened["in"].running and opened["out"].running
        assert (opened["in"].wanted["device"], opened["out"].wanted["device"]) == ("USB", None)
        assert (opened["in"].wanted["blocksize"], opened["out"].wanted["blocksize"]) == (160, 240)
        played = bytearray(480)
        opened["out"].wanted["callback"](played, 240, None, None)
        assert bytes(played) == said
        opened["in"].wanted["callback"](sound(FRAME, HEARD_RATE), 160, None, None)
        assert (await asyncio.wait_for(anext(microphone), 1)).samples_per_channel == 160
    assert not opened["in"].running and not opened["out"].running


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(AudioError, match=r"voice-node\[console\].*--text"):
        portaudio()
