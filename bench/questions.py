"""What the callers of the benchmarks ask, and from when to when a delay counts: last audible sample to first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.types import Audio
from tests.sound import first_audible, last_audible
from tests.speech import spoken

QUESTIONS = (
    "how are you today",
    "what is my name",
    "what can you do for me",
    "what do you think about music",
    "my favorite color is green",
    "what is my favorite color",
    "the weather is very nice today",
    "i went to the beach with my sister yesterday",
    "what did i tell you about my sister",
)
VOICES = ("awb", "rms", "kal16")
STAGES = ("commit", "transcript", "first_token", "first_audio", "sent")
FRAME = 320
"""Samples of 16 kHz in a frame of the caller's microphone."""
PATIENCE = 20.0
"""Seconds after which a question counts as unanswered."""


def question(number: int) -> tuple[str, str, Audio]:
    """Text, voice and sound of a question, its sound ending with its last audible sample; 16 kHz."""
    text, voice = QUESTIONS[number % len(QUESTIONS)], VOICES[number % len(VOICES)]
    speech = spoken(text, voice, 16_000)
    end = last_audible(speech, 16_000)
    assert end is not None, f"flite said nothing for '{text}'"
    return text, voice, speech[: end + 1]


def ended_at(samples: int, last_frame_sent: float) -> float:
    """When the last of so many samples was spoken: its frame was handed over whole, padded with silence."""
    return last_frame_sent - (-samples % FRAME) / 16_000


def heard_at(pieces: Sequence[tuple[float, Any]], rate: int) -> float | None:
    """When a player without a buffer plays the first audible sample of pieces that arrived at these times."""
    plays_from = 0.0
    for at, samples in pieces:
        start = max(at, plays_from)
        index = first_audible(samples, rate)
        if index is not None:
            return start + index / rate
        plays_from = start + len(samples) / rate
    return None
