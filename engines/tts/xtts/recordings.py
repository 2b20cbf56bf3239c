"""Reference recordings, from which a voice is cloned: read from a path or address, decoded at their own rate.

A cloned voice's samples are the operator's own files, in any format that FFmpeg's libraries read.
"""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from engines.types import Audio, EngineBadInput

SHORTEST = 1.0
"""Seconds that a recording needs at least; the model's own least is 0.33, which clones nobody."""

QUIETEST = 1e-3
"""Peak below which a recording holds nothing that could be cloned."""

BEYOND = 1.0
"""Seconds decoded after the last one that is used: resampling looks a little ahead."""

LARGEST = 512 * 1024 * 1024
"""Bytes of the largest file that is read."""


class BadReference(EngineBadInput):
    """A voice's recording is missing, unreadable, too short or silent; the message names it."""


def read(address: str) -> bytes:
    """The bytes of a recording.

    Args:
        address: A path, or an address that fsspec knows (s3://, https://, ...).

    Raises:
        BadReference: It isn't there, can't be read or is too large.
    """
    try:
        if "://" in address:
            import fsspec

            with fsspec.open(address, "rb") as file:
                data: bytes = file.read(LARGEST + 1)
        else:
            with Path(address).expanduser().open("rb") as file:
                data = file.read(LARGEST + 1)
    except (OSError, ImportError, ValueError) as error:
        raise BadReference(
            f"The recording {_shown(address)} can't be read: {error}; mend the voice's samples."
        ) from error
    if len(data) > LARGEST:
        raise BadReference(f"The recording {_shown(address)} is larger than {LARGEST >> 20} MiB; cut it to 30 s.")
    return data


def stamp(address: str) -> str:
    """What changes when a local file is rewritten; empty for what isn't a local file or isn't there."""
    if "://" in address:
        return ""
    try:
        seen = Path(address).expanduser().stat()
    except OSError:
        return ""
    return f"{seen.st_mtime_ns}:{seen.st_size}"


def decode(data: bytes, address: str, seconds: float) -> tuple[Audio, int]:
    """The beginning of a recording as mono samples at its own rate.

    Args:
        data: The file.
        address: Where it is from, for messages.
        seconds: How much of it is used.

    Returns:
        Samples, a little more than `seconds` of them where there are as many, and their rate in Hz.

    Raises:
        BadReference: It can't be decoded, is too short or silent.
    """
    parts: list[Audio] = []
    length = 0
    try:
        with av.open(io.BytesIO(data), "r") as file:
            stream = next(iter(file.streams.audio), None)
            if stream is None:
                raise BadReference(f"The recording {_shown(address)} holds no sound.")
            rate = stream.codec_context.sample_rate
            to_float = av.AudioResampler("fltp")
            for frame in file.decode(stream):
                for piece in to_float.resample(frame):
                    parts.append(piece.to_ndarray().mean(axis=0, dtype=np.float32))
                    length += piece.samples
                if length > (seconds + BEYOND) * rate:
                    break
    except (FFmpegError, ValueError) as error:
        raise BadReference(f"The recording {_shown(address)} can't be decoded ({type(error).__name__}).") from error
    sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if len(sound) < SHORTEST * rate:
        raise BadReference(
            f"The recording {_shown(address)} has {len(sound) / rate:.2f} s; a voice needs {SHORTEST:g} s at least, "
            "and 6 to 30 s to be like its owner's."
        )
    if float(np.abs(sound).max()) < QUIETEST:
        raise BadReference(f"The recording {_shown(address)} is silent.")
    return sound, rate


def _shown(address: str) -> str:
    """The name of a recording, without the place, which may hold a key."""
    return f"'{address.rsplit('/', 1)[-1].partition('?')[0]}'"
