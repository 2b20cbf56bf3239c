"""Encodes speech while it is made: raw PCM, WAV, FLAC, MP3, or Opus in Ogg; 24 kHz mono."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Protocol

import av
from av.audio.stream import AudioStream

from engines import wire
from engines.types import SPOKEN_RATE, Audio


class Encoder(Protocol):
    """Turns sound into bytes of a file, piece by piece."""

    def encode(self, audio: Audio) -> bytes:
        """The bytes that are ready after `audio` has been added; may be none."""
        ...

    def finish(self) -> bytes:
        """The last bytes."""
        ...


class _Pcm:
    """16-bit little-endian samples, with nothing around them."""

    def encode(self, audio: Audio) -> bytes:
        return wire.audio_to_pcm16(audio)

    def finish(self) -> bytes:
        return b""


class _Wav(_Pcm):
    """A WAV file; its header gives the length as unknown, since the speech isn't over when it is sent."""

    def __init__(self) -> None:
        unknown = 0xFFFFFFFF
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SPOKEN_RATE, SPOKEN_RATE * 2, 2, 16)
        self._header = struct.pack("<4sI4s", b"RIFF", unknown, b"WAVE") + form + struct.pack("<4sI", b"data", unknown)

    def encode(self, audio: Audio) -> bytes:
        header, self._header = self._header, b""
        return header + super().encode(audio)

    def finish(self) -> bytes:
        return self._header


class _Sink:
    """A file that can't be sought, whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class _Compressed:
    """A compressed format, written by FFmpeg's libraries."""

    def __init__(self, container: str, codec: str, options: dict[str, str]) -> None:
        self._sink = _Sink()
        self._container = av.open(self._sink, "w", format=container, container_options=options)
        self._stream = self._container.add_stream(codec, rate=SPOKEN_RATE)
        assert isinstance(self._stream, AudioStream)
        self._stream.layout = "mono"
        self._samples = 0

    def encode(self, audio: Audio) -> bytes:
        assert isinstance(self._stream, AudioStream)
        frame = av.AudioFrame.from_ndarray(audio.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = SPOKEN_RATE
        frame.pts = self._samples
        self._samples += len(audio)
        self._container.mux(self._stream.encode(frame))
        return self._sink.take()

    def finish(self) -> bytes:
        assert isinstance(self._stream, AudioStream)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()


FORMATS: Mapping[str, tuple[str, Callable[[], Encoder]]] = {
    "pcm": ("audio/pcm", _Pcm),
    "wav": ("audio/wav", _Wav),
    "flac": ("audio/flac", lambda: _Compressed("flac", "flac", {})),
    # A page of 20 ms, so that sound isn't held back; no seek table, which would need seeking.
    "mp3": ("audio/mpeg", lambda: _Compressed("mp3", "libmp3lame", {"write_xing": "0"})),
    "opus": ("audio/ogg", lambda: _Compressed("ogg", "libopus", {"page_duration": "20000"})),
}
"""By OpenAI's names: content type, and how to make the encoder."""


async def encoded(chunks: AsyncGenerator[Audio, None], name: str) -> AsyncGenerator[bytes, None]:
    """The bytes of a file in the format `name`, as the sound comes.

    Raises:
        EngineError: What `chunks` raises.
    """
    encoder = await asyncio.to_thread(FORMATS[name][1])
    async with aclosing(chunks):
        async for chunk in chunks:
            if len(chunk) and (data := await asyncio.to_thread(encoder.encode, chunk)):
                yield data
    if data := await asyncio.to_thread(encoder.finish):
        yield data
