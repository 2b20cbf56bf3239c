"""How the embedded recognizer and its processes talk: framed messages over a socket per utterance.

A frame is an operation (1 byte) and a payload with its length (4 bytes, little-endian). Sound travels as 16-bit
PCM at 16 kHz, words so far as UTF-8, settled ones as JSON `{"text", "duration", "parts": [{"start", "end", "text"}]}`.
The socket's end ends the utterance, on either side.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

_HEADER = struct.Struct("<BI")

LIVE, RECORDED = b"l", b"r"
"""What a worker is told along with an utterance's socket: whether somebody is speaking, or waits for a recording."""

READY = b"+"
"""What a worker says once its model is loaded."""


class Op(IntEnum):
    """What a frame says; the first two go to the recognizer, the others come back."""

    PUSH = 1
    SETTLE = 2
    PARTIAL = 3
    SETTLED = 4


def packed(op: Op, payload: bytes = b"") -> bytes:
    """A frame as it travels."""
    return _HEADER.pack(op, len(payload)) + payload


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Op, bytes]]:
        """The frames that are complete with these bytes."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            op, length = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield Op(op), payload
