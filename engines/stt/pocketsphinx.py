"""PocketSphinx as a `Transcriber`: the embedded recognizer, needing no download and no key.

It decodes while audio arrives, in processes of its own (pocketsphinx_worker.py), because it holds the interpreter
while it works. English only: the wheel carries the en-US model.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

from engines.stt.pocketsphinx_process import WorkerProcess
from engines.stt.pocketsphinx_utterance import PocketSphinxUtterance
from engines.types import (
    HEARD_RATE,
    Audio,
    Capacity,
    EngineBadInput,
    EngineFull,
    EngineInfo,
    EngineNotConfigured,
    EngineUnavailable,
    Health,
    LiveTranscription,
    Transcript,
)

BLOCK = HEARD_RATE // 2
"""Samples of a recording handed over at once."""


class PocketSphinx:
    """The embedded recognizer.

    Args:
        processes: Workers: each holds the model (100 MB), and one goes on when another dies.
        utterances: Utterances each of them holds at once (21 MB each while it lasts).
    """

    def __init__(self, processes: int = 2, utterances: int = 8) -> None:
        self._workers = [WorkerProcess() for _ in range(processes)]
        self._utterances = utterances

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        return EngineInfo("stt", "pocketsphinx", "en-US", "cpu", "BSD-2-Clause")

    @property
    def capacity(self) -> Capacity:
        """Utterances held and possible."""
        return Capacity(sum(len(worker.holds) for worker in self._workers), len(self._workers) * self._utterances)

    async def start(self) -> None:
        """Start the workers and wait until their models are loaded (a second each).

        Raises:
            EngineNotConfigured: The package is missing.
            EngineUnavailable: They don't start, or the recognizer was closed.
        """
        if find_spec("pocketsphinx") is None:
            raise EngineNotConfigured("the package pocketsphinx is missing; run 'make setup', or name another STT")
        await asyncio.gather(*(worker.wait_ready() for worker in self._workers))

    async def health(self) -> Health:
        """Whether it can take an utterance, having loaded or still to load."""
        if any(worker.usable for worker in self._workers):
            return Health(True)
        return Health(False, "the embedded recognizer's workers died and are being started again, or it was closed")

    async def aclose(self) -> None:
        """End the workers; what they were decoding is lost."""
        await asyncio.gather(*(worker.aclose() for worker in self._workers))

    def stream(self, language: str | None = None) -> LiveTranscription:
        """Open a live utterance; returns at once.

        Raises:
            EngineBadInput: Another language than English.
            EngineFull: Every place is taken.
            EngineUnavailable: No worker runs.
        """
        return self._open(language, live=True)

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Transcribe a recording of any length; live speech goes first.

        Raises:
            EngineBadInput: Another language than English.
            EngineFull: Every place is taken.
            EngineUnavailable: No worker runs, or its process died.
        """
        utterance = self._open(language, live=False)
        try:
            for at in range(0, len(audio), BLOCK):
                utterance.push(audio[at : at + BLOCK])
                await utterance.flowing()
            return await utterance.finish()
        finally:
            await utterance.cancel()

    def _open(self, language: str | None, *, live: bool) -> PocketSphinxUtterance:
        if language and language.lower().replace("_", "-").split("-")[0] not in ("en", "eng", "auto"):
            raise EngineBadInput(
                f"the embedded recognizer hears English only, not '{language}'; set STT=whisper with a multilingual"
                " WHISPER_MODEL, or GROQ_API_KEY"
            )
        usable = [worker for worker in self._workers if worker.usable]
        if not usable:
            raise EngineUnavailable("no worker of the embedded recognizer runs", retry_after=1.0)
        free = [worker for worker in usable if len(worker.holds) < self._utterances]
        if not free:
            raise EngineFull("every place of the embedded recognizer is taken", retry_after=1.0)
        return PocketSphinxUtterance(min(free, key=lambda worker: (not worker.ready, len(worker.holds))), live=live)
