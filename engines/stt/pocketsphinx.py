"""PocketSphinx as a `Transcriber`: the embedded recognizer, needing no download and no key.

It decodes while audio arrives, in a small pool of worker processes (pocketsphinx_worker.py), because it holds
the interpreter while it works. English only: the wheel carries the en-US model.
"""

from __future__ import annotations

import asyncio

import numpy as np

from engines.stt.pocketsphinx_process import WorkerProcess
from engines.stt.pocketsphinx_utterance import PocketSphinxUtterance
from engines.types import (
    HEARD_RATE,
    Audio,
    Capacity,
    EngineBadInput,
    EngineFull,
    EngineInfo,
    Health,
    LiveTranscription,
    Transcript,
)

BLOCK = HEARD_RATE // 2
"""Samples of a long recording that are handed over before the worker must have decoded them."""

SETTLE_AFTER = 8
"""Blocks (half seconds) after which a long recording is settled at the next quiet one, and at the latest after..."""
SETTLE_LATEST = 40


class PocketSphinx:
    """The embedded recognizer.

    Args:
        processes: Worker processes; one decodes several utterances in real time on a core.
        utterances: Live utterances each of them holds.
    """

    def __init__(self, processes: int = 2, utterances: int = 8) -> None:
        self._workers = [WorkerProcess() for _ in range(processes)]
        self._utterances = utterances
        self.info = EngineInfo("stt", "pocketsphinx", "en-US", "cpu", "BSD-2-Clause")

    @property
    def capacity(self) -> Capacity:
        """Live utterances held and possible."""
        return Capacity(sum(worker.held for worker in self._workers), len(self._workers) * self._utterances)

    async def start(self) -> None:
        """Start the processes and wait until their models are loaded (a second each).

        Raises:
            EngineUnavailable: They don't start.
        """
        for worker in self._workers:
            worker.ensure_running()
        await asyncio.gather(*(worker.ready() for worker in self._workers))

    async def health(self) -> Health:
        """Whether a worker is there."""
        if any(worker.alive for worker in self._workers):
            return Health(True)
        return Health(False, "no recognizer process runs; it starts with the first speech or at start()")

    async def aclose(self) -> None:
        """End the processes; what they were decoding is lost."""
        await asyncio.gather(*(worker.aclose() for worker in self._workers))

    def stream(self, language: str | None = None) -> LiveTranscription:
        """Open a live utterance.

        Raises:
            EngineBadInput: Another language than English.
            EngineFull: Every worker holds as many as it may.
        """
        return self._open(language)

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Transcribe a recording of any length, a half second at a time, so that live speech is not kept waiting.

        Raises:
            EngineBadInput: Another language than English.
            EngineFull: Every worker holds as many as it may.
            EngineUnavailable: The worker died.
        """
        utterance = self._open(language)
        try:
            loudest, since = 0.0, 0
            for at in range(0, len(audio), BLOCK):
                block = audio[at : at + BLOCK]
                utterance.push(block)
                await utterance.decoded()
                level = float(np.sqrt(np.mean(np.square(block))))
                loudest, since = max(loudest, level), since + 1
                if since >= SETTLE_LATEST or (since >= SETTLE_AFTER and level < loudest / 10):
                    await utterance.settle()
                    since = 0
            return await utterance.finish()
        finally:
            await utterance.cancel()

    def _open(self, language: str | None) -> PocketSphinxUtterance:
        if language is not None and language.lower().replace("_", "-").split("-")[0] not in ("en", "auto", ""):
            raise EngineBadInput(
                f"the embedded recognizer hears English only, not '{language}'; set STT=whisper with a multilingual"
                " WHISPER_MODEL, or GROQ_API_KEY"
            )
        worker = min(self._workers, key=lambda worker: (not worker.alive, worker.held))
        if worker.held >= self._utterances:
            raise EngineFull("every place of the embedded recognizer is taken", retry_after=1.0)
        worker.ensure_running()
        return PocketSphinxUtterance(worker)
