"""The agent's sound on its way to the client: paced frames become messages, replies get their ends."""

from __future__ import annotations

import base64

import numpy as np
from livekit import rtc

from compat_ws.messages import Options, text
from compat_ws.outbox import Outbox


class Speaker:
    """Writes sound as 32-bit float little-endian PCM; an `AudioSink` of `conversation.paced_output`.

    Args:
        outbox: Takes the messages.
        wanted: How sound is wrapped, and whether the client knows `interrupted`.
    """

    def __init__(self, outbox: Outbox, wanted: Options) -> None:
        self._outbox = outbox
        self._wanted = wanted

    async def write(self, frame: rtc.AudioFrame) -> None:
        """Queue a frame, 24 kHz mono, for sending; returns at once."""
        data = (np.frombuffer(frame.data, np.int16).astype("<f4") / np.float32(32768)).tobytes()
        message = data if self._wanted.binary else text("tts_stream", data=base64.b64encode(data).decode())
        self._outbox.put(message, sound=frame.duration)

    def clear(self) -> float:
        """Drop what wasn't sent; a client that knows `interrupted` drops all that it hasn't played."""
        dropped = self._outbox.drop_sound()
        if not self._wanted.events:
            return dropped
        self._outbox.put(text("interrupted"))
        return float("inf")

    def segment_done(self, interrupted: bool) -> None:
        """A reply has ended, by itself or not."""
        self._outbox.put(text("tts_stream_end"))
