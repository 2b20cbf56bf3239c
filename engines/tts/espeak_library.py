"""eSpeak NG's shared library through ctypes: a text in, pieces of sound out as they are made.

The library keeps one state per process and is not thread safe, so one thread of its own calls it. eSpeak NG
is GPL-3.0-or-later; the wheel `espeakng-loader` carries it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import espeakng_loader
import numpy as np

from engines.types import Audio, EngineBadInput, EngineUnavailable

PIECE_MS = 60
"""Milliseconds of sound in a piece."""

_SYNCHRONOUS = 2
_UTF8 = 1
_RATE, _PITCH = 1, 3
_NORMAL_RATE, _NORMAL_PITCH = 175, 50
_OK = 0
_GO_ON, _STOP = 0, 1

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Speaker:
    """How eSpeak NG speaks: the first voice that it has of those named, and speed and pitch against normal."""

    voices: tuple[str, ...]
    rate: float = 1.0
    pitch: float = 1.0


class EspeakLibrary:
    """The library. Get it with `library()`, in its `thread()` only."""

    def __init__(self) -> None:
        self._calls = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate: int = self._calls.espeak_Initialize(
            _SYNCHRONOUS, PIECE_MS, espeakng_loader.get_data_path().encode(), 0
        )
        if self.rate <= 0:
            raise EngineUnavailable("eSpeak NG could not start; reinstall the package espeakng-loader")
        self._callback = _Callback(self._on_sound)  # kept: the library holds no reference of its own
        self._calls.espeak_SetSynthCallback(self._callback)
        self._sink: Callable[[Audio], bool] = lambda _: False
        self._speaker: Speaker | None = None

    def say(self, text: str, speaker: Speaker, sink: Callable[[Audio], bool]) -> None:
        """Speak a text; in the library's thread only.

        Args:
            sink: Given every piece, mono at `rate`; returns whether to go on.

        Raises:
            EngineBadInput: There is no such voice.
            EngineUnavailable: The library failed.
        """
        self._choose(speaker)
        self._sink = sink
        spoken = text.replace("\0", " ").encode("utf-8", "replace")
        if self._calls.espeak_Synth(spoken, len(spoken) + 1, 0, 0, 0, _UTF8, None, None) != _OK:
            raise EngineUnavailable("eSpeak NG could not speak; restart the process")

    def _choose(self, speaker: Speaker) -> None:
        if speaker == self._speaker:
            return
        self._speaker = None
        if not any(self._calls.espeak_SetVoiceByName(voice.encode()) == _OK for voice in speaker.voices):
            raise EngineBadInput(
                f"eSpeak NG has no voice '{speaker.voices[0]}'; name one of its languages, like en-us, en-us+f3 or de"
            )
        self._calls.espeak_SetParameter(_RATE, round(min(max(_NORMAL_RATE * speaker.rate, 80), 450)), 0)
        self._calls.espeak_SetParameter(_PITCH, round(min(max(_NORMAL_PITCH * speaker.pitch, 0), 99)), 0)
        self._speaker = speaker

    def _on_sound(self, samples: object, count: int, events: int | None) -> int:
        if not count or not samples:
            return _GO_ON
        piece = np.ctypeslib.as_array(samples, (count,)).astype(np.float32)
        piece *= np.float32(1 / 32768)
        return _GO_ON if self._sink(piece) else _STOP


@lru_cache(maxsize=1)
def thread() -> ThreadPoolExecutor:
    """The one thread of this process that may call the library."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="espeak")


@lru_cache(maxsize=1)
def library() -> EspeakLibrary:
    """The process's one library, loaded on first use."""
    return EspeakLibrary()
