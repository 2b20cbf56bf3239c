"""Decodes uploaded recordings: WAV, FLAC, MP3, OGG, WebM, or raw 16-bit 16 kHz PCM, to 16 kHz mono samples.

The container is told by its first bytes and given to the decoder by name. Left to guess, the decoder would also take
playlists, and those make it open files and addresses that the uploader chose.

What an uploader says of a file is not believed: rates and channels that would cost the resampler gigabytes are
refused before it is made, and time and length are looked at with every read and every frame.
"""

from __future__ import annotations

import io
import time

import av
from av.error import FFmpegError

from engines import wire
from engines.types import HEARD_RATE, Audio
from services.errors import ApiError

MAX_SECONDS = 3600.0
"""Longest recording; a small file can unpack to days of silence."""

FORMATS = "WAV, FLAC, MP3, OGG, WebM, or raw 16-bit 16 kHz mono PCM as audio/pcm"

DECODE_WITHIN = 60.0
"""Seconds of work on one file; the longest recording takes a tenth of that."""

RATES = (4_000, 384_000)
"""Lowest and highest sample rate."""

CHANNELS = 16

LONGEST_FRAME = 1 << 20
"""Samples in one piece as the decoder hands it out; real ones have a few thousand."""

_SHOWN = {"matroska": "WebM"}

_UNKNOWN_SIZE = 0x7FFF0000
"""Sizes in a WAV header from here on mean that the writer didn't know."""


def decode(data: bytes, content_type: str = "") -> Audio:
    """The samples of a recording; blocking, so run it in a thread.

    Args:
        data: The file.
        content_type: As the caller stated it; decides only whether the data is raw PCM.

    Returns:
        Mono samples, 16 kHz.

    Raises:
        ApiError: 400 for what is no recording or a damaged one, 413 for one that is too long.
    """
    if not data:
        raise _refused("The file is empty")
    if content_type.partition(";")[0].strip().lower() in ("audio/pcm", "audio/l16", "audio/x-raw"):
        return _raw(data)
    container = _container(data)
    if container == "wav":
        _check_wav(data)
    try:
        return _unpacked(data, container)
    except (FFmpegError, ValueError, OverflowError) as error:
        what = error.strerror if isinstance(error, FFmpegError) else type(error).__name__
        raise _refused(f"The {_SHOWN.get(container, container.upper())} file is damaged ({what})") from error


def _raw(data: bytes) -> Audio:
    if len(data) % 2:
        raise _refused("Raw PCM has two bytes a sample; this file has an odd number of bytes")
    if len(data) > MAX_SECONDS * HEARD_RATE * 2:
        raise _too_long()
    return wire.pcm16_to_audio(data)


def _container(data: bytes) -> str:
    """The container's name for the decoder."""
    head = data[:12]
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0):
        return "mp3"
    raise _refused("This is no recording that can be read")


def _check_wav(data: bytes) -> None:
    """Refuse a WAV file that was cut off: the decoder takes what is there without a word."""
    announced = int.from_bytes(data[4:8], "little") + 8
    if announced < _UNKNOWN_SIZE and announced > len(data) + 1:
        raise _refused(f"The WAV file is cut off: its header announces {announced} bytes, {len(data)} came")


class _File(io.BytesIO):
    """The file's bytes, readable until its time is over."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._end = time.monotonic() + DECODE_WITHIN

    def read(self, size: int | None = -1) -> bytes:
        self.check_time()
        return super().read(size)

    def check_time(self) -> None:
        """Raise the refusal of a file that takes too long."""
        if time.monotonic() > self._end:
            raise _refused(f"The file couldn't be unpacked within {DECODE_WITHIN:g} seconds")


def _unpacked(data: bytes, container: str) -> Audio:
    parts: list[bytes] = []
    samples = 0
    source = _File(data)
    with av.open(source, "r", format=container) as recording:
        if not recording.streams.audio:
            raise _refused("The file holds no sound")
        stream = recording.streams.audio[0]
        codec = stream.codec_context
        # There is none for what nothing here decodes.
        if codec is None or not codec.sample_rate:
            raise _refused("The file holds no sound that can be read")
        _check_form(codec.sample_rate, codec.channels, 0)
        resampler = av.AudioResampler("s16", "mono", HEARD_RATE)
        for frame in recording.decode(stream):
            source.check_time()
            _check_form(frame.sample_rate, frame.layout.nb_channels, frame.samples)
            for piece in resampler.resample(frame):
                parts.append(_samples(piece))
                samples += piece.samples
            if samples > MAX_SECONDS * HEARD_RATE:
                raise _too_long()
        parts += [_samples(piece) for piece in resampler.resample(None)] if parts else []
    if not parts:
        raise _refused("The file holds no sound")
    sound = b"".join(parts)
    parts.clear()
    return wire.pcm16_to_audio(sound)


def _check_form(rate: int, channels: int, samples: int) -> None:
    """Refuse sound of a form that nobody records, before anything is made for it."""
    if not RATES[0] <= rate <= RATES[1]:
        raise _refused(f"A recording has {RATES[0]} to {RATES[1]} samples a second; this one says {rate}")
    if not 1 <= channels <= CHANNELS:
        raise _refused(f"A recording has 1 to {CHANNELS} channels; this one says {channels}")
    if samples > LONGEST_FRAME:
        raise _refused("The file holds sound in pieces that are too long")


def _samples(frame: av.AudioFrame) -> bytes:
    return frame.to_ndarray().tobytes()


def _refused(what: str) -> ApiError:
    return ApiError(400, "bad_audio", f"{what}. Send {FORMATS}.")


def _too_long() -> ApiError:
    return ApiError(413, "too_big", f"The recording is longer than {MAX_SECONDS / 60:g} minutes; send it in parts.")
