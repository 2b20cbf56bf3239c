"""A whole conversation on LiveKit's session with scripted engines: real sound in, real pacing out, a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from livekit import rtc
from livekit.agents.voice import io

from conversation.builder import Caller, Conversation, Events
from conversation.latency import Record
from conversation.paced_output import PacedOutput
from engines.select import Chosen
from engines.types import HEARD_RATE, SPOKEN_RATE, Audio, EngineUnavailable, Message
from library import Library
from plugins.audio import frame
from settings import Settings
from tests.scripted_engines import ScriptedChat, ScriptedTranscriber, ScriptedVoice
from tests.speech import spoken

LONG = "this answer is long enough to be interrupted while it is being spoken because it has a great many words in it"


class Microphone(io.AudioInput):
    """Sound in real time, silence where nothing is said."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self._queue: list[Audio] = []
        self._next = 0.0

    def say(self, audio: Audio) -> None:
        self._queue.append(audio)

    async def __anext__(self) -> rtc.AudioFrame:
        loop = asyncio.get_running_loop()
        self._next = max(self._next, loop.time() - 0.05) + 0.02
        await asyncio.sleep(max(0.0, self._next - loop.time()))
        size = HEARD_RATE // 50
        piece = np.zeros(size, np.float32)
        if self._queue:
            head = self._queue[0][:size]
            piece[: len(head)] = head
            self._queue[0] = self._queue[0][size:]
            if not len(self._queue[0]):
                self._queue.pop(0)
        return frame(piece, HEARD_RATE)


class Loudspeaker:
    """Keeps what was played."""

    def __init__(self) -> None:
        self.samples = 0

    async def write(self, piece: rtc.AudioFrame) -> None:
        self.samples += piece.samples_per_channel

    def clear(self) -> float:
        return 0.0

    def segment_done(self, interrupted: bool) -> None:
        pass

    @property
    def seconds(self) -> float:
        return self.samples / SPOKEN_RATE


class Scene:
    """One conversation and everything it told its transport."""

    def __init__(self, library: Library, settings: Settings) -> None:
        self.library, self.settings = library, settings
        self.stt, self.chat, self.tts = ScriptedTranscriber([]), ScriptedChat(lambda _: "well done"), ScriptedVoice()
        self.microphone, self.loudspeaker = Microphone(), Loudspeaker()
        self.words: list[tuple[str, str]] = []
        self.records: list[Record] = []
        self.errors: list[str] = []
        self.interruptions = self.replies = 0
        self.changed = asyncio.Event()
        self.conversation: Conversation | None = None

    async def open(self, session_id: str = "s1", personality: str | None = None) -> Conversation:
        self.conversation = Conversation(
            engines=Chosen(stt=self.stt, chat=self.chat, tts=self.tts, why=()),
            library=self.library,
            settings=self.settings,
            caller=Caller(session_id, personality),
            transport="websocket",
        )
        self.conversation.events = Events(
            transcript=self._on_words,
            turn=self._note(self.records.append),
            interrupted=self._note(self._on_interrupted),
            reply_done=self._note(self._on_reply),
            error=self._note(lambda code, _: self.errors.append(code)),
        )
        output = PacedOutput(self.loudspeaker, lead=0.2)
        await self.conversation.start(self.microphone, output)
        return self.conversation

    async def close(self) -> None:
        if self.conversation is not None:
            await self.conversation.aclose()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def _note(self, then: Callable[..., object]) -> Callable[..., None]:
        def noted(*args: object) -> None:
            then(*args)
            self.changed.set()

        return noted

    def _on_words(self, role: str, text: str, final: bool) -> None:
        if final:
            self.words.append((role, text.strip()))
        self.changed.set()

    def _on_interrupted(self) -> None:
        self.interruptions += 1

    def _on_reply(self) -> None:
        self.replies += 1


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    settings = Settings()
    library = await Library.open(settings)
    made = Scene(library, settings)
    yield made
    await made.close()
    await library.aclose()


async def quiet_personality(library: Library) -> str:
    """Id of a shipped personality that waits to be spoken to."""
    return next(one.id for one in await library.personalities.all() if not one.greeting)


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


async def test_a_failing_chat_engine_is_told_and_the_conversation_goes_on(scene: Scene) -> None:
    conversation = await scene.open(personality=await quiet_personality(scene.library))
    scene.chat.failure = EngineUnavailable("the chat service does not answer; start it")
    await conversation.type("hello")
    await scene.until(lambda: bool(scene.errors))
    scene.chat.failure = None
    await conversation.type("hello again")
    await scene.until(lambda: scene.replies == 1)
    assert scene.words[-1] == ("agent", "well done")
