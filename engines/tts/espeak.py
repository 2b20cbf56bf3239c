"""eSpeak NG as a `Synthesizer`: the embedded voice, needing no download and no key.

It makes sound about 150 times faster than it is spoken, so clauses of many conversations take turns in its
one thread without anybody noticing; nobody waits for another one's long text.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing

import numpy as np
import soxr

from engines.tts.clauses import clauses
from engines.tts.espeak_library import Speaker, library, thread
from engines.types import (
    DEFAULT_VOICE,
    SPOKEN_RATE,
    Audio,
    Capacity,
    EngineError,
    EngineInfo,
    EngineUnavailable,
    Health,
    Voice,
)

_AUDIBLE = 0.003
_KEPT_BEFORE = 0.004
"""Seconds kept before the first audible sample: eSpeak NG begins with 12 ms of silence that nobody should wait for."""

_OTHER_TAGS = {"zh": "cmn", "no": "nb", "iw": "he", "in": "id"}
"""Usual language tags that eSpeak NG knows under another one."""


class Espeak:
    """The embedded voice.

    Args:
        default_voice: eSpeak NG voice where the agent's voice names none.
    """

    def __init__(self, default_voice: str = "en-us") -> None:
        self._default = default_voice
        self._held = 0
        self.info = EngineInfo("tts", "espeak", "eSpeak NG", "cpu", "GPL-3.0-or-later")

    @property
    def capacity(self) -> Capacity:
        """No limit of its own."""
        return Capacity(self._held, None)

    async def start(self) -> None:
        """Load the library and its default voice.

        Raises:
            EngineBadInput: There is no such default voice.
            EngineUnavailable: The library can't be loaded.
        """
        await self._made("hello", Speaker((self._default,)))

    async def health(self) -> Health:
        """Whether it speaks."""
        try:
            await self.start()
        except EngineError as error:
            return Health(False, error.message)
        return Health(True)

    async def aclose(self) -> None:
        """Nothing to free: the library belongs to the process."""

    async def speak(
        self,
        text: str | AsyncIterable[str],
        voice: Voice = DEFAULT_VOICE,
        language: str | None = None,
    ) -> AsyncGenerator[Audio, None]:
        """Yield 24 kHz pieces of about 60 ms, clause by clause, as they are made."""
        speaker = Speaker(self._voices_for(voice, language), voice.rate, voice.pitch)
        self._held += 1
        try:
            async with aclosing(clauses(text)) as written:
                async for clause in written:
                    async with aclosing(self._clause(clause, speaker)) as pieces:
                        async for piece in pieces:
                            yield piece
        finally:
            self._held -= 1

    def _voices_for(self, voice: Voice, language: str | None) -> tuple[str, ...]:
        """Its own eSpeak name, else the default where it speaks the language, else the language's: pt-br, pt."""
        if named := voice.engines.get("espeak"):
            return (named,)
        wanted = (language or voice.language).lower().replace("_", "-")
        spoken = wanted.split("-")[0]
        if spoken == self._default.lower().split("-")[0]:
            return (self._default,)
        return (wanted, _OTHER_TAGS.get(spoken, spoken))

    async def _clause(self, clause: str, speaker: Speaker) -> AsyncGenerator[Audio, None]:
        loop = asyncio.get_running_loop()
        ready: asyncio.Queue[Audio | None] = asyncio.Queue()
        stopped = threading.Event()

        def hand_over(piece: Audio | None) -> None:
            loop.call_soon_threadsafe(ready.put_nowait, piece)

        def make() -> None:
            try:
                if not stopped.is_set():
                    _synthesize(clause, speaker, hand_over, stopped)
            finally:
                hand_over(None)

        working = loop.run_in_executor(thread(), make)
        try:
            while (piece := await ready.get()) is not None:
                yield piece
            await working
        finally:
            stopped.set()

    async def _made(self, text: str, speaker: Speaker) -> None:
        async with aclosing(self._clause(text, speaker)) as pieces:
            async for _ in pieces:
                pass


def _synthesize(clause: str, speaker: Speaker, hand_over: Callable[[Audio], None], stopped: threading.Event) -> None:
    """Make one clause, in the library's thread; each clause is resampled on its own, as it begins and ends silent."""
    try:
        espeak = library()
    except OSError as error:
        raise EngineUnavailable(f"eSpeak NG could not be loaded ({error}); reinstall espeakng-loader") from error
    resampler = soxr.ResampleStream(espeak.rate, SPOKEN_RATE, 1, dtype="float32", quality="HQ")
    begun = False

    def on_piece(piece: Audio) -> bool:
        nonlocal begun
        if not begun:
            audible = np.flatnonzero(np.abs(piece) > _AUDIBLE)
            if not len(audible):
                return not stopped.is_set()
            begun = True
            piece = piece[max(0, audible[0] - round(_KEPT_BEFORE * espeak.rate)) :]
        if len(made := resampler.resample_chunk(piece)):
            hand_over(made)
        return not stopped.is_set()

    espeak.say(clause, speaker, on_piece)
    if len(rest := resampler.resample_chunk(np.zeros(0, np.float32), last=True)):
        hand_over(rest)
