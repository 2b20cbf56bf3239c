"""A conversation on LiveKit's session with scripted engines: real sound in, real pacing out, a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
from livekit import rtc
from livekit.agents.voice import io

from conversation.builder import Caller, Conversation, Events
from conversation.latency import Record
from conversation.paced_output import PacedOutput
from engines.select import Chosen, answering, hearing, speaking
from engines.types import HEARD_RATE, SPOKEN_RATE, Audio
from library import Library
from plugins.audio import frame
from settings import Settings
from tests.scripted_engines import ScriptedChat, ScriptedTranscriber, ScriptedVoice


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
            engines=Chosen(
                stt=hearing(self.settings, [self.stt]),
                chat=answering(self.settings, [self.chat]),
                tts=speaking(self.settings, [self.tts]),
                why=(),
            ),
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


@asynccontextmanager
async def a_scene(settings: Settings) -> AsyncIterator[Scene]:
    """A scene over a library of its own; closed at the end."""
    library = await Library.open(settings)
    made = Scene(library, settings)
    try:
        yield made
    finally:
        await made.close()
        await library.aclose()


async def quiet_personality(library: Library) -> str:
    """Id of a shipped personality that waits to be spoken to."""
    return next(one.id for one in await library.personalities.all() if not one.greeting)
