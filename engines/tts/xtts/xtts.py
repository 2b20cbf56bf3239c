"""XTTS v2 as a `Synthesizer`: who is let in, and how a text becomes a reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from pathlib import Path

from engines.tts.xtts.admission import fits, refusal
from engines.tts.xtts.checkpoints import Checkpoints
from engines.tts.xtts.loading import Loaded, Options
from engines.tts.xtts.reply import Prompt, Reply
from engines.tts.xtts.text import language_of, pieces
from engines.tts.xtts.voices import Own, Voices
from engines.types import (
    DEFAULT_VOICE,
    Audio,
    Capacity,
    EngineError,
    EngineInfo,
    Health,
    Voice,
)
from settings import Settings

LICENSE = "Coqui Public Model License 1.0.0 (weights, non-commercial)"


class Xtts:
    """Speech in cloned voices.

    Args:
        folder: The checkpoint.
        voices: Finds voices' latents.
        options: How checkpoints are run.
    """

    def __init__(self, folder: Path, voices: Voices, options: Options) -> None:
        self._folder = folder
        self._voices = voices
        self._options = options
        self._checkpoints = Checkpoints(folder, options)

    @classmethod
    def from_settings(cls, settings: Settings) -> Xtts:
        """The engine as the settings want it; nothing is loaded yet."""
        wanted = settings.engines
        options = Options(wanted.xtts_device, wanted.xtts_backend, wanted.xtts_precision, wanted.xtts_streams)
        voices = Voices(settings.storage.data_dir / "voices" / "xtts", wanted.xtts_voice)
        return cls(Path(wanted.xtts_model_path).expanduser(), voices, options)

    # --- Engine ---

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        loaded = self._checkpoints.ready(self._folder)
        device = self._options.device if loaded is None else f"{loaded.device}, {loaded.precision}"
        return EngineInfo("tts", "xtts", self._folder.name or "XTTS v2", device, LICENSE)

    @property
    def capacity(self) -> Capacity:
        """Replies that it speaks, and how many it would speak at once."""
        held = sum(one.held for one in self._checkpoints.all())
        if self._options.streams:
            return Capacity(held, self._options.streams)
        loaded = self._checkpoints.ready(self._folder)
        return Capacity(held, None if loaded is None else loaded.worker.cost.most(loaded.worker.streams))

    async def start(self) -> None:
        """Load the checkpoint and measure how fast it is.

        Raises:
            EngineNotConfigured: The checkpoint or a package is missing or damaged.
            EngineUnavailable: It doesn't fit into memory, or was closed.
        """
        await self._checkpoints.get(self._folder)

    async def health(self) -> Health:
        """Whether it can take a reply, now or when others have ended."""
        loaded = self._checkpoints.ready(self._folder)
        if loaded is None:
            problem = self._checkpoints.problem(self._folder)
            if problem is not None and not isinstance(problem, EngineError):
                return Health(False, f"XTTS couldn't be loaded ({type(problem).__name__}); the log says why")
            return Health(False, str(problem or "the XTTS checkpoint isn't loaded yet"))
        worker = loaded.worker
        if not worker.alive:
            return Health(False, worker.trouble or "XTTS's thread ended or is stuck; the next reply loads it anew")
        if not self._options.streams and not worker.cost.most(1) and not loaded.held:
            return Health(False, refusal([], worker.cost.of(1)).message)
        return Health(True)

    async def aclose(self) -> None:
        """End everything under way and free the memory."""
        await self._checkpoints.aclose()

    # --- speaking ---

    async def speak(
        self,
        text: str | AsyncIterable[str],
        voice: Voice = DEFAULT_VOICE,
        language: str | None = None,
    ) -> AsyncGenerator[Audio, None]:
        """Yield 24 kHz chunks as they are made; closing frees the slot before the next step.

        Raises:
            EngineFull: One more reply would make those that it speaks stumble.
            EngineBadInput: The language isn't one of XTTS's, or the voice's recordings can't be used.
            EngineNotConfigured: The checkpoint or a default voice is missing.
            EngineUnavailable: It broke off.
        """
        loaded = await self._checkpoints.get(Own.of(voice).folder or self._folder)
        spoken = language_of(language or voice.language, loaded.checkpoint.config.languages)
        self._admit(loaded)
        loaded.held += 1
        try:
            latents = await asyncio.to_thread(self._voices.latents, loaded.checkpoint, voice)
            reply = Reply(latents, spoken, voice.rate, loaded.worker.wake)
            loaded.replies.append(reply)
            loaded.worker.speak(reply)
            feeding = asyncio.create_task(_feed(reply, loaded, text), name="feed xtts")
            try:
                async with aclosing(reply.sound()) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                reply.cancel()
                loaded.replies.remove(reply)
                feeding.cancel()
                await asyncio.wait({feeding})
        finally:
            loaded.held -= 1
            self._checkpoints.released(loaded)

    async def prepare(self, voice: Voice) -> str:
        """Make a voice ready to speak, and say what was done.

        Raises:
            EngineError: It can't be; says why.
        """
        loaded = await self._checkpoints.get(Own.of(voice).folder or self._folder)
        latents = await asyncio.to_thread(self._voices.latents, loaded.checkpoint, voice)
        of = f"{len(voice.samples)} recordings" if voice.samples else "a speaker of the checkpoint"
        return f"xtts speaks as {voice.id} from {of}, with checkpoint {latents.checkpoint[:16]}."

    def _admit(self, loaded: Loaded) -> None:
        """Let a reply in, or not; nothing may be awaited between this and counting it.

        Raises:
            EngineFull: There is no room for it.
        """
        cost = loaded.worker.cost
        every = self._checkpoints.all()
        if self._options.streams:
            room = sum(one.held for one in every) < self._options.streams
        else:
            room = fits(one.worker.cost.of(one.held + (one is loaded)) for one in every if one.held or one is loaded)
        if room and loaded.held < loaded.worker.streams:
            return
        running = [reply.codes_before_it for one in every for reply in one.replies]
        if not running and not loaded.held:
            loaded.worker.measure()
            raise refusal([], cost.of(1))
        raise refusal(running or [0.0], cost.of(max(1, loaded.held)))


async def _feed(reply: Reply, loaded: Loaded, text: str | AsyncIterable[str]) -> None:
    """Hand a reply its text, piece by piece, as it is written."""
    tokenizer = loaded.checkpoint.tokenizer
    try:
        async with aclosing(pieces(text, reply.language)) as written:
            async for piece in written:
                ids = await asyncio.to_thread(tokenizer.encode, piece.text.lower(), piece.language)
                reply.add(Prompt(list(ids), piece.characters))
    except Exception as error:
        reply.fail(error)
    else:
        reply.end_text()
