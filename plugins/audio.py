"""Sound between engines (float32) and LiveKit (frames of 16-bit integers)."""

from __future__ import annotations

import numpy as np
from livekit import rtc
from livekit.agents.utils import AudioBuffer

from engines.types import HEARD_RATE, Audio


def frame(audio: Audio, rate: int) -> rtc.AudioFrame:
    """Mono float32 samples in [-1, 1] as one frame; louder samples are clipped."""
    whole = (np.clip(audio, -1.0, 1.0) * 32767).astype(np.int16)
    return rtc.AudioFrame(data=whole.tobytes(), sample_rate=rate, num_channels=1, samples_per_channel=len(whole))


def samples(piece: rtc.AudioFrame) -> Audio:
    """A frame's samples as mono float32 in [-1, 1], channels averaged."""
    audio: Audio = np.frombuffer(piece.data, np.int16).astype(np.float32)
    if piece.num_channels > 1:
        audio = audio.reshape(-1, piece.num_channels).mean(axis=1, dtype=np.float32)
    audio *= np.float32(1 / 32768)
    return audio


def heard_audio(buffer: AudioBuffer) -> Audio:
    """A buffer of frames as one stretch of mono float32 at 16 kHz, as a `Transcriber` takes it."""
    whole = rtc.combine_audio_frames(buffer)
    if whole.sample_rate == HEARD_RATE:
        return samples(whole)
    resampler = rtc.AudioResampler(whole.sample_rate, HEARD_RATE, num_channels=whole.num_channels)
    pieces = [samples(piece) for piece in (*resampler.push(whole), *resampler.flush())]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
