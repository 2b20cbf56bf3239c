"""Sound to the client is 32-bit float PCM in the wrapping it asked for; a reply has one end."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from livekit import rtc

from compat_ws.messages import Options
from compat_ws.outbox import Outbox
from compat_ws.speaker import Speaker


class Kept(Outbox):
    def __init__(self) -> None:
        async def nobody(_: str | bytes) -> None:
            raise AssertionError("nothing is sent here")

        super().__init__(nobody)
        self.messages: list[str | bytes] = []

    def put(self, message: str | bytes, sound: float = 0.0) -> None:
        self.messages.append(message)

    def drop_sound(self) -> float:
        return 0.25


SAMPLES = np.array([0, 16384, -16384, 32767, -32768], np.int16)
FRAME = rtc.AudioFrame(SAMPLES.tobytes(), 24_000, 1, len(SAMPLES))


async def test_a_legacy_client_gets_base64_in_json() -> None:
    outbox = Kept()
    await Speaker(outbox, Options()).write(FRAME)
    message = json.loads(outbox.messages[0])
    assert set(message) == {"type", "data"}
    assert message["type"] == "tts_stream"
    samples = np.frombuffer(base64.b64decode(message["data"], validate=True), "<f4")
    assert samples == pytest.approx(SAMPLES / 32768)


async def test_binary_is_the_samples_alone() -> None:
    outbox = Kept()
    await Speaker(outbox, Options(binary=True)).write(FRAME)
    assert np.frombuffer(outbox.messages[0], "<f4") == pytest.approx(SAMPLES / 32768)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_reply_ends_with_one_message(interrupted: bool) -> None:
    outbox = Kept()
    Speaker(outbox, Options(events=True)).segment_done(interrupted)
    assert [json.loads(message) for message in outbox.messages] == [{"type": "tts_stream_end"}]


def test_only_a_client_that_knows_it_is_told_to_clear_its_playback() -> None:
    legacy, modern = Kept(), Kept()
    assert Speaker(legacy, Options()).clear() == 0.25
    assert legacy.messages == []
    assert Speaker(modern, Options(events=True)).clear() == float("inf")
    assert [json.loads(message) for message in modern.messages] == [{"type": "interrupted"}]
