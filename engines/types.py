"""The three engine Protocols and the values they pass: audio, transcripts, messages, voices.

Everything above this file talks to engines through these names alone, so that a conversation never
knows whether a model, a running service of ours or a cloud answers it.

Audio is always mono float32 in [-1, 1]: 16 kHz into a `Transcriber`, 24 kHz out of a `Synthesizer`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Audio: TypeAlias = NDArray[np.float32]
"""Mono samples in [-1, 1], shape (n,)."""

HEARD_RATE = 16_000
"""Sample rate in Hz of everything a `Transcriber` is given."""

SPOKEN_RATE = 24_000
"""Sample rate in Hz of everything a `Synthesizer` yields."""

Kind: TypeAlias = Literal["stt", "chat", "tts"]
Role: TypeAlias = Literal["system", "user", "assistant"]


class EngineError(Exception):
    """An engine could not do what it was asked; `message` says what to do about it.

    Attributes:
        code: The machine-readable name that services and sockets put into their error answers.
        message: One sentence for a person, without anything that was said in a conversation.
        retry_after: Seconds after which asking again makes sense, or None.
    """

    code = "engine_failed"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class EngineFull(EngineError):
    """Every place of the engine is taken; it refused at once instead of queueing."""

    code = "full"


class EngineNotConfigured(EngineError):
    """The engine lacks a setting, key, model or package; the message names the fix."""

    code = "not_configured"


class EngineUnavailable(EngineError):
    """The engine is configured but doesn't answer (dead process, service down, network)."""

    code = "unavailable"


class EngineLate(EngineUnavailable):
    """The engine gave nothing within its deadline; asking it again at once would only take as long again."""


class EngineBadInput(EngineError):
    """The caller's input cannot be served by any engine (wrong audio, unknown language)."""

    code = "bad_input"


CLOUD = "cloud"
"""The device of an engine that a vendor runs."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is, shown at start, in `/health` and on the page."""

    kind: Kind
    name: str
    """The name used in the lists `STT`, `CHAT` and `TTS`."""
    model: str
    device: str
    """`cpu`, `cuda:0`, `CLOUD`, or the address of a service."""
    license: str
    paid: bool = False
    """Whether a call costs money; such engines get no text that may be thrown away."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an engine can serve now, and if not, why and what to do."""

    ok: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many calls an engine holds and how many it accepts at once (None: no own limit)."""

    held: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a transcript; `start` and `end` are seconds from the start of the audio."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was understood of an utterance; `text` is empty where nothing was said."""

    text: str
    language: str
    duration: float = 0.0
    """Seconds of audio."""
    segments: Sequence[Segment] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, as a chat model reads it."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that a `Synthesizer` may be asked to speak in.

    An engine takes what it knows from `engines[<its name>]` (eSpeak: its variant; a cloud: its
    voice id) and falls back to its own default where there is nothing for it.
    """

    id: str
    name: str
    language: str = "en"
    engines: Mapping[str, str] = field(default_factory=dict)
    samples: Sequence[str] = ()
    """Addresses of reference recordings, for engines that clone."""
    rate: float = 1.0
    """Speed against the engine's normal speed."""
    pitch: float = 1.0
    """Pitch against the engine's normal pitch, where it can be changed."""


DEFAULT_VOICE = Voice(id="default", name="Default")


class Engine(Protocol):
    """What all engines share. Loading is lazy, off the event loop, and safe to ask for twice."""

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        ...

    @property
    def capacity(self) -> Capacity:
        """What it holds now, and how much it would hold."""
        ...

    async def start(self) -> None:
        """Load what the engine needs, so that the first call doesn't wait for it.

        Raises:
            EngineNotConfigured: A setting, key, model or package is missing.
            EngineUnavailable: It can't be reached or loaded.
        """
        ...

    async def health(self) -> Health:
        """Answer within a second whether the engine can serve; never raises."""
        ...

    async def aclose(self) -> None:
        """Free everything, ending calls under way; idempotent."""
        ...


class LiveTranscription(Protocol):
    """One utterance being transcribed while it is spoken."""

    def push(self, audio: Audio) -> None:
        """Hand over more speech, 16 kHz; returns at once."""
        ...

    @property
    def text(self) -> str:
        """The words understood so far; may still change."""
        ...

    async def settle(self) -> str:
        """The best whole text of all audio pushed so far; more audio may follow.

        Raises:
            EngineError: The engine lost the utterance.
        """
        ...

    async def finish(self) -> Transcript:
        """End the utterance and give its final text; the stream is closed afterwards.

        Raises:
            EngineError: The engine lost the utterance.
        """
        ...

    async def cancel(self) -> None:
        """Drop the utterance and free its place; idempotent, never raises."""
        ...


@runtime_checkable
class Transcriber(Engine, Protocol):
    """Speech to text."""

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Transcribe a whole utterance, 16 kHz, of any length.

        Raises:
            EngineFull: No place is free.
            EngineError: It failed.
        """
        ...

    def stream(self, language: str | None = None) -> LiveTranscription:
        """Open a live utterance; returns at once.

        Raises:
            EngineFull: No place is free.
        """
        ...


@runtime_checkable
class ChatModel(Engine, Protocol):
    """Messages to text. Stateless: the messages carry the whole context."""

    def reply(
        self,
        messages: Sequence[Message],
        *,
        conversation: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield the reply's text as it is generated; closing stops within one token.

        Args:
            messages: System message first where there is one, the newest user message last.
            conversation: A hint for the engine's cache, never a store of context.

        Raises:
            EngineFull: No place is free (at the first step).
            EngineError: It failed.
        """
        ...


@runtime_checkable
class Synthesizer(Engine, Protocol):
    """Text to speech."""

    def speak(
        self,
        text: str | AsyncIterable[str],
        voice: Voice = DEFAULT_VOICE,
        language: str | None = None,
    ) -> AsyncGenerator[Audio, None]:
        """Yield 24 kHz chunks as they are made; closing frees the engine's slot within one step.

        Args:
            text: The whole text, or pieces of it as they are written.
            language: BCP 47 tag; the voice's own language where None.

        Raises:
            EngineFull: No slot is free (at the first step).
            EngineError: It failed.
        """
        ...


@runtime_checkable
class Cloning(Synthesizer, Protocol):
    """A `Synthesizer` that computes something from a voice's recordings before it speaks in it, and keeps it."""

    async def prepare(self, voice: Voice) -> str:
        """Compute it now, so that the voice's first reply doesn't wait for it, and say in a sentence what was done.

        Raises:
            EngineError: The voice can't be spoken; says why.
        """
        ...
