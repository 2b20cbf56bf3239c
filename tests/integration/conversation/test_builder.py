"""A whole conversation on LiveKit's session with scripted engines: real sound in, real pacing out, a real database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engines.types import EngineUnavailable, Message
from library import DatabaseError
from settings import Settings
from tests.integration.conversation.scene import Scene, a_scene, quiet_personality
from tests.speech import spoken

LONG = "this answer is long enough to be interrupted while it is being spoken because it has a great many words in it"


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    async with a_scene(Settings()) as made:
        yield made


async def test_a_spoken_turn_is_answered_aloud_and_recorded(scene: Scene) -> None:
    scene.stt.texts = ["good morning"]
    await scene.open(personality=await quiet_personality(scene.library))
    scene.microphone.say(spoken("good morning"))
    await scene.until(lambda: scene.replies == 1)
    assert scene.words == [("user", "good morning"), ("agent", "well done")]
    assert scene.loudspeaker.seconds == pytest.approx(0.2, abs=0.05)
    (record,) = scene.records
    path = [record[stage] for stage in ("commit", "sent")]
    assert all(isinstance(step, float) and step > 0 for step in path)
    assert record["turn"] == 1


async def test_the_personality_speaks_first_only_where_nothing_was_said_before(scene: Scene) -> None:
    await scene.open(personality="assistant")
    await scene.until(lambda: scene.replies == 1)
    greeting = (await scene.library.personalities.resolve("assistant")).greeting
    assert scene.words == [("agent", greeting)]
    await scene.close()
    scene.words.clear()
    scene.stt.texts = ["good morning"]
    await scene.open(personality="assistant")
    scene.microphone.say(spoken("good morning"))
    await scene.until(lambda: scene.replies == 2)
    assert scene.words == [("user", "good morning"), ("agent", "well done")]


async def test_a_conversation_goes_on_where_it_stopped(scene: Scene) -> None:
    scene.stt.texts = ["my name is robin"]
    quiet = await quiet_personality(scene.library)
    await scene.open(personality=quiet)
    scene.microphone.say(spoken("my name is robin"))
    await scene.until(lambda: scene.replies == 1)
    await scene.close()
    scene.stt.texts = ["what is my name"]
    again = await scene.open()
    scene.microphone.say(spoken("what is my name"))
    await scene.until(lambda: scene.replies == 2)
    assert again.personality.id == quiet
    told = [(message.role, message.content.strip()) for message in scene.chat.asked[-1] if message.role != "system"]
    assert told == [("user", "my name is robin"), ("assistant", "well done"), ("user", "what is my name")]
    assert scene.chat.asked[-1][0] == Message("system", again.personality.prompt)


async def test_speech_over_a_reply_stops_it_and_history_keeps_what_was_heard(scene: Scene) -> None:
    scene.stt.texts = ["tell me a long story", "please stop now"]
    scene.tts.seconds_per_word = 0.5
    answers = iter([LONG, "stopped", "stopped", "stopped"])
    scene.chat.answer = lambda messages: LONG if messages[-1].content == "tell me a long story" else next(answers)
    next(answers)
    await scene.open(personality=await quiet_personality(scene.library))
    scene.microphone.say(spoken("tell me a long story"))
    await scene.until(lambda: len(scene.records) == 1)
    await asyncio.sleep(1.5)
    scene.microphone.say(spoken("please stop now"))
    await scene.until(lambda: scene.replies == 1)
    assert scene.interruptions == 1
    assert scene.loudspeaker.seconds < 0.5 * len(LONG.split()) * 0.7
    assert scene.conversation is not None
    await scene.conversation.aclose()
    stored = await scene.library.conversations.messages("s1")
    cut = next(message for message in stored if message.interrupted)
    assert LONG.startswith(cut.content.strip())
    assert 0 < len(cut.content.split()) < len(LONG.split())


async def test_noise_without_words_pauses_a_reply_and_loses_nothing(scene: Scene) -> None:
    scene.stt.texts = ["tell me a long story", ""]
    scene.tts.seconds_per_word = 0.2
    scene.chat.answer = lambda _: LONG
    await scene.open(personality=await quiet_personality(scene.library))
    scene.microphone.say(spoken("tell me a long story"))
    await scene.until(lambda: len(scene.records) == 1)
    await asyncio.sleep(0.8)
    scene.microphone.say(spoken("oh"))
    await scene.until(lambda: scene.replies == 1)
    assert scene.interruptions == 0
    assert scene.loudspeaker.seconds == pytest.approx(0.2 * len(LONG.split()), abs=0.05)


async def test_a_typed_message_is_answered_like_a_spoken_one(scene: Scene) -> None:
    conversation = await scene.open(personality=await quiet_personality(scene.library))
    await conversation.type("  hello there ")
    await scene.until(lambda: scene.replies == 1)
    assert scene.words == [("user", "hello there"), ("agent", "well done")]
    assert scene.records == []
    await conversation.aclose()
    stored = await scene.library.conversations.messages("s1")
    assert [(message.role, message.content.strip()) for message in stored] == [
        ("user", "hello there"),
        ("assistant", "well done"),
    ]


async def test_personality_and_voice_change_while_it_goes_on(scene: Scene) -> None:
    conversation = await scene.open(personality=await quiet_personality(scene.library))
    await conversation.use_personality("assistant")
    await conversation.type("who are you")
    await scene.until(lambda: scene.replies == 1)
    assistant = await scene.library.personalities.resolve("assistant")
    assert scene.chat.asked[-1][0].content == assistant.prompt
    assert scene.tts.voices[-1] == assistant.voice
    with pytest.raises(LookupError, match="no personality 'nobody'"):
        await conversation.use_personality("nobody")
    with pytest.raises(LookupError, match="no voice 'nobody'"):
        await conversation.use_voice("nobody")


async def test_a_choice_that_cannot_be_kept_changes_nothing(scene: Scene) -> None:
    conversation = await scene.open(personality=await quiet_personality(scene.library))
    before = conversation.personality
    other = sqlite3.connect(str(scene.library.database.url.database), isolation_level=None, timeout=5)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match="is locked"):
            await conversation.use_personality("assistant")
    finally:
        other.close()
    assert conversation.personality == before
    await conversation.type("who are you")
    await scene.until(lambda: scene.replies == 1)
    assert scene.chat.asked[-1][0].content == before.prompt
    assert scene.tts.voices[-1] == before.voice


async def test_a_failing_chat_engine_is_told_and_the_conversation_goes_on(scene: Scene) -> None:
    conversation = await scene.open(personality=await quiet_personality(scene.library))
    scene.chat.failure = EngineUnavailable("the chat service does not answer; start it")
    await conversation.type("hello")
    await scene.until(lambda: bool(scene.errors))
    scene.chat.failure = None
    await conversation.type("hello again")
    await scene.until(lambda: scene.replies == 1)
    assert scene.words[-1] == ("agent", "well done")
