"""What test users say: lines of flite speech with chosen silences, as a microphone would pick them up."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.types import Audio
from tests.speech import spoken

MICROPHONE_RATE = 48_000
"""What Chromium wants in its microphone file."""


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence and the silence after it, in seconds."""

    text: str
    voice: str = "awb"
    pause: float = 6.0


def pcm(speech: Audio) -> bytes:
    """16-bit little-endian samples."""
    return (np.clip(speech, -1, 1) * 32767).astype("<i2").tobytes()


def dialogue(lines: Sequence[Line], rate: int, lead: float = 0.0) -> Audio:
    """The lines one after the other, after `lead` seconds of silence."""
    pieces = [np.zeros(int(lead * rate), dtype=np.float32)]
    for line in lines:
        pieces += [spoken(line.text, line.voice, rate), np.zeros(int(line.pause * rate), dtype=np.float32)]
    return np.concatenate(pieces)


def microphone_file(path: Path, lines: Sequence[Line], lead: float) -> Path:
    """Write a dialogue as Chromium wants it: WAV, 48 kHz, mono, 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(MICROPHONE_RATE)
        file.writeframes(pcm(dialogue(lines, MICROPHONE_RATE, lead)))
    return path
