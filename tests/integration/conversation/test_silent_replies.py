"""Replies that fall silent in a whole conversation: they are ended with a word about it, and the next one is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from livekit import rtc

from engines.watchdog import LOGGER
from settings import Settings
from tests.integration.conversation.scene import Loudspeaker, Scene, a_scene, quiet_personality
from tests.scripted_engines import FOREVER
from tests.speech import spoken

MANY = "these are a great many words that take a long time to say one after the other"


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TTS_DEADLINE", "1")
    async with a_scene(Settings()) as made:
        yield made


def causes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["cause"] for record in caplog.records if record.name == LOGGER]


async def the_next_reply_is_heard(scene: Scene) -> None:
    assert scene.conversation is not None
    scene.chat.answer = lambda _: "well done"
    before = scene.loudspeaker.samples
    await scene.conversation.type("hello again")
    await scene.until(lambda: scene.words[-2:] == [("user", "hello again"), ("agent", "well done")])
    assert scene.loudspeaker.samples > before


async def test_a_voice_that_yields_only_emptiness(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    conversation = await scene.open(personality=await quiet_personality(scene.library))
    scene.tts.only_silence = True
    await conversation.type("hello")
    await scene.until(lambda: bool(scene.errors))
    assert scene.errors == ["no_sound"]
    assert causes(caplog) == ["no sound"]
    scene.tts.only_silence = False
    await the_next_reply_is_heard(scene)
    assert scene.tts.held == 0, "its place is free again"


async def test_a_pause_that_nobody_ends(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    conversation = await scene.open(personality=await quiet_personality(scene.library))
    scene.tts.seconds_per_word = 0.5
    scene.chat.answer = lambda _: MANY
    await conversation.type("hello")
    while scene.loudspeaker.seconds < 0.3:  # noqa: ASYNC110 - a loudspeaker tells nobody
        await asyncio.sleep(0.01)
    assert conversation.session.output.audio is not None
    conversation.session.output.audio.pause()
    await scene.until(lambda: bool(scene.errors))
    assert scene.errors == ["no_sound"]
    assert causes(caplog) == ["paused"]
    await the_next_reply_is_heard(scene)


class Stuck(Loudspeaker):
    """A loudspeaker that stops taking sound after a while, until it is mended."""

    broken = True

    async def write(self, piece: rtc.AudioFrame) -> None:
        if self.broken and self.seconds > 0.3:
            await asyncio.sleep(FOREVER)
        await super().write(piece)


async def test_a_sink_that_takes_no_more(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.loudspeaker = stuck = Stuck()
    conversation = await scene.open(personality=await quiet_personality(scene.library))
    scene.tts.seconds_per_word = 0.5
    scene.chat.answer = lambda _: MANY
    await conversation.type("hello")
    await scene.until(lambda: bool(scene.errors))
    assert scene.errors == ["no_sound"]
    assert causes(caplog) == ["not played"]
    stuck.broken = False
    await the_next_reply_is_heard(scene)


async def test_a_pause_for_somebody_who_speaks_long_is_no_fault(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.stt.texts = ["tell me a long story", ""]
    scene.tts.seconds_per_word = 0.3
    scene.chat.answer = lambda _: MANY
    await scene.open(personality=await quiet_personality(scene.library))
    scene.microphone.say(spoken("tell me a long story"))
    await scene.until(lambda: len(scene.records) == 1)
    await asyncio.sleep(0.8)
    scene.microphone.say(spoken("and here somebody speaks for a good while without a pause"))
    await scene.until(lambda: scene.replies == 1)
    assert scene.errors == []
    assert causes(caplog) == []
