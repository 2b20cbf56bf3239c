"""How the embedded recognizer and its worker processes talk: framed messages over pipes.

A frame is an operation (1 byte), an utterance's number (4 bytes) and a payload with its length (4 bytes),
little-endian. Sound travels as 16-bit PCM at 16 kHz, words as UTF-8, finished transcripts as JSON.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

_HEADER = struct.Struct("<BII")


class Op(IntEnum):
    """What a frame says; the first five go to the worker, the others come back."""

    OPEN = 1
    PUSH = 2
    SETTLE = 3
    FINISH = 4
    CANCEL = 5
    READY = 6
    PARTIAL = 7
    SETTLED = 8
    FINISHED = 9
    FAILED = 10
    ECHO = 11
    """Sent back as it is, once everything before it has been decoded."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    op: Op
    utterance: int
    payload: bytes = b""

    def __bytes__(self) -> bytes:
        return _HEADER.pack(self.op, self.utterance, len(self.payload)) + self.payload


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with these bytes."""
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _HEADER.size:
            op, utterance, length = _HEADER.unpack_from(self._buffer, at)
            end = at + _HEADER.size + length
            if len(self._buffer) < end:
                break
            yield Frame(Op(op), utterance, bytes(self._buffer[at + _HEADER.size : end]))
            at = end
        del self._buffer[:at]
