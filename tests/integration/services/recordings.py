"""Recordings in every container the service reads, and some that it should not."""

from __future__ import annotations

import io

import av
import numpy as np

from engines.types import Audio
from engines.wire import audio_to_pcm16

CONTAINERS = {
    "wav": ("wav", "pcm_s16le", 16_000),
    "wav-float-44k": ("wav", "pcm_f32le", 44_100),
    "flac": ("flac", "flac", 16_000),
    "mp3": ("mp3", "libmp3lame", 24_000),
    "ogg-opus": ("ogg", "libopus", 48_000),
    "webm": ("webm", "libopus", 48_000),
}


def packed(audio: Audio, name: str, layout: str = "mono") -> bytes:
    """A file with the sound (16 kHz) in one of `CONTAINERS`."""
    container, codec, rate = CONTAINERS[name]
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.layout = layout
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio).reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = 16_000
        for piece in av.AudioResampler(stream.format.name, layout, rate).resample(frame):
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return out.getvalue()


def pcm(audio: Audio) -> bytes:
    """Raw 16-bit samples."""
    return audio_to_pcm16(audio)


def tone(seconds: float, level: float = 0.3) -> Audio:
    """A hum, 16 kHz."""
    return (level * np.sin(np.arange(int(seconds * 16_000)) * 0.1)).astype(np.float32)
