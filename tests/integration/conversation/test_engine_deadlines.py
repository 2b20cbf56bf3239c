"""Engines that hang in the middle of a conversation: the turn is given up with a word about it, the next one works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engines.watchdog import LOGGER
from settings import Settings
from tests.integration.conversation.scene import Scene, a_scene, quiet_personality
from tests.speech import spoken


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    for name in ("STT_DEADLINE", "CHAT_FIRST_DEADLINE", "CHAT_NEXT_DEADLINE", "TTS_DEADLINE"):
        monkeypatch.setenv(name, "1")
    async with a_scene(Settings()) as made:
        yield made


def bites(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["watchdog"] for record in caplog.records if record.name == LOGGER]


@pytest.mark.parametrize("hangs_after", [0, 1])
async def test_a_chat_model_that_hangs(scene: Scene, caplog: pytest.LogCaptureFixture, hangs_after: int) -> None:
    conversation = await scene.open(personality=await quiet_personality(scene.library))
    scene.chat.hangs_after = hangs_after
    await conversation.type("hello")
    await scene.until(lambda: bool(scene.errors))
    assert scene.errors == ["unavailable"]
    assert scene.chat.held == 0, "its place is free again"
    scene.chat.hangs_after = None
    before = scene.replies
    await conversation.type("hello again")
    await scene.until(lambda: scene.replies > before and scene.words[-1] == ("agent", "well done"))
    assert bites(caplog) == ["engine_deadline"]


@pytest.mark.parametrize("hangs_after", [0, 1])
async def test_a_voice_that_hangs(scene: Scene, caplog: pytest.LogCaptureFixture, hangs_after: int) -> None:
    conversation = await scene.open(personality=await quiet_personality(scene.library))
    scene.tts.hangs_after = hangs_after
    await conversation.type("hello")
    await scene.until(lambda: bool(scene.errors))
    assert scene.errors == ["unavailable"]
    assert scene.tts.held == 0, "its place is free again"
    scene.tts.hangs_after = None
    before = scene.loudspeaker.seconds
    await conversation.type("hello again")
    await scene.until(lambda: scene.words[-2:] == [("user", "hello again"), ("agent", "well done")])
    assert scene.loudspeaker.seconds > before
    assert bites(caplog) == ["engine_deadline"]


async def test_a_recognizer_that_hangs(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.stt.texts = ["good morning", "good evening"]
    scene.stt.hangs = True
    await scene.open(personality=await quiet_personality(scene.library))
    scene.microphone.say(spoken("good morning"))
    await scene.until(lambda: bool(scene.errors))
    assert scene.errors == ["unavailable"]
    scene.stt.hangs = False
    scene.microphone.say(spoken("good evening"))
    await scene.until(lambda: scene.replies == 1)
    assert scene.words == [("user", "good evening"), ("agent", "well done")]
    assert bites(caplog) == ["engine_deadline"]
