"""Engines that do as a script says, for tests of what stands above engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from engines.types import (
    DEFAULT_VOICE,
    HEARD_RATE,
    SPOKEN_RATE,
    Audio,
    Capacity,
    EngineError,
    EngineInfo,
    Health,
    LiveTranscription,
    Message,
    Transcript,
    Voice,
)

FOREVER = 1e6
"""Seconds that an engine which hangs takes."""


@dataclass
class _Always:
    """The parts of an engine that never vary."""

    async def start(self) -> None:
        pass

    async def health(self) -> Health:
        return Health(True)

    async def aclose(self) -> None:
        pass

    @property
    def capacity(self) -> Capacity:
        return Capacity(0, None)


@dataclass
class ScriptedUtterance:
    """Gives the text that its script has for it, once it has been given enough sound."""

    script: str
    given: float = 0.0
    hangs: bool = False

    @property
    def text(self) -> str:
        return self.script if self.given > 0.5 else ""

    def push(self, audio: Audio) -> None:
        self.given += len(audio) / HEARD_RATE

    async def settle(self) -> str:
        if self.hangs:
            await asyncio.sleep(FOREVER)
        return self.script

    async def finish(self) -> Transcript:
        if self.hangs:
            await asyncio.sleep(FOREVER)
        return Transcript(self.script, "en", self.given)

    async def cancel(self) -> None:
        pass


@dataclass
class ScriptedTranscriber(_Always):
    """Hears the next of `texts` in every utterance; whatever is left over is silence."""

    texts: list[str]
    hangs: bool = False
    info: EngineInfo = field(default_factory=lambda: EngineInfo("stt", "scripted", "scripted", "cpu", "none"))

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        return Transcript(self.texts.pop(0) if self.texts else "", language or "en", len(audio) / HEARD_RATE)

    def stream(self, language: str | None = None) -> LiveTranscription:
        return ScriptedUtterance(self.texts.pop(0) if self.texts else "", hangs=self.hangs)


@dataclass
class ScriptedChat(_Always):
    """Answers by a function of the messages, word by word; after `hangs_after` words, where set, nothing comes."""

    answer: Callable[[Sequence[Message]], str]
    asked: list[list[Message]] = field(default_factory=list)
    failure: EngineError | None = None
    hangs_after: int | None = None
    held: int = 0
    info: EngineInfo = field(default_factory=lambda: EngineInfo("chat", "scripted", "scripted", "cpu", "none"))

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        conversation: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncGenerator[str, None]:
        self.asked.append(list(messages))
        if self.failure is not None:
            raise self.failure
        self.held += 1
        try:
            for at, word in enumerate(self.answer(messages).split(" ")):
                if at == self.hangs_after:
                    await asyncio.sleep(FOREVER)
                yield word + " "
                await asyncio.sleep(0)
        finally:
            self.held -= 1


@dataclass
class ScriptedVoice(_Always):
    """Hums one tone, a tenth of a second for every word; after `hangs_after` words, where set, nothing comes."""

    seconds_per_word: float = 0.1
    hangs_after: int | None = None
    only_silence: bool = False
    """Yields pieces without a sample, for ever."""
    held: int = 0
    spoken: list[str] = field(default_factory=list)
    voices: list[str] = field(default_factory=list)
    info: EngineInfo = field(default_factory=lambda: EngineInfo("tts", "scripted", "scripted", "cpu", "none"))

    async def speak(
        self, text: str | AsyncIterable[str], voice: Voice = DEFAULT_VOICE, language: str | None = None
    ) -> AsyncGenerator[Audio, None]:
        self.voices.append(voice.id)
        whole = text if isinstance(text, str) else "".join([piece async for piece in text])
        self.spoken.append(whole)
        self.held += 1
        try:
            while self.only_silence:
                yield np.zeros(0, np.float32)
                await asyncio.sleep(0.05)
            for at, _ in enumerate(whole.split()):
                if at == self.hangs_after:
                    await asyncio.sleep(FOREVER)
                samples = np.arange(int(SPOKEN_RATE * self.seconds_per_word))
                yield (0.3 * np.sin(2 * np.pi * 220 * samples / SPOKEN_RATE)).astype(np.float32)
                await asyncio.sleep(0)
        finally:
            self.held -= 1
