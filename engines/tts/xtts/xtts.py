"""XTTS v2 as a `Synthesizer`: which checkpoints are loaded, who is let in, and how a text becomes a reply.

Several checkpoints may be loaded: the one of the settings, those that voices bring themselves, and one whose files were
rewritten and which still speaks replies that it began. Everything that takes time runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from pathlib import Path

from engines.tts.xtts.admission import fits, refusal
from engines.tts.xtts.loading import Loaded, Options, load, stamp
from engines.tts.xtts.reply import Prompt, Reply
from engines.tts.xtts.text import language_of, pieces
from engines.tts.xtts.voices import Own, Voices
from engines.types import (
    DEFAULT_VOICE,
    Audio,
    Capacity,
    EngineError,
    EngineFull,
    EngineInfo,
    EngineUnavailable,
    Health,
    Voice,
)
from settings import Settings

logger = logging.getLogger("voice_node.xtts")

LICENSE = "Coqui Public Model License 1.0.0 (weights, non-commercial)"

LOOK_EVERY = 1.0
"""Seconds between looks at the checkpoints' files; rewritten ones must stay the same for one look to be loaded."""

MOST_CHECKPOINTS = 3
"""Checkpoints loaded at once, for voices that bring their own; each takes as much memory as the first."""

AGAIN_AFTER = 5.0
"""Seconds in which a checkpoint that couldn't be loaded isn't tried again while its files stay the same."""


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
        self._loading: dict[Path, asyncio.Task[Loaded]] = {}
        self._used: list[Path] = []
        """Folders by when they were last asked for, the latest last."""
        self._retired: list[Loaded] = []
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

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
        loaded = self._ready(self._folder)
        device = self._options.device if loaded is None else f"{loaded.device}, {loaded.precision}"
        return EngineInfo("tts", "xtts", self._folder.name or "XTTS v2", device, LICENSE)

    @property
    def capacity(self) -> Capacity:
        """Replies that it speaks, and how many it would speak at once."""
        held = sum(one.held for one in self._all())
        if self._options.streams:
            return Capacity(held, self._options.streams)
        loaded = self._ready(self._folder)
        return Capacity(held, None if loaded is None else loaded.worker.cost.most(loaded.worker.streams))

    async def start(self) -> None:
        """Load the checkpoint and measure how fast it is.

        Raises:
            EngineNotConfigured: The checkpoint or a package is missing or damaged.
            EngineUnavailable: It doesn't fit into memory, or was closed.
        """
        await self._get(self._folder)

    async def health(self) -> Health:
        """Whether it can take a reply, now or when others have ended."""
        task = self._loading.get(self._folder)
        if task is None or not task.done():
            return Health(False, "the XTTS checkpoint isn't loaded yet")
        try:
            loaded = task.result()
        except EngineError as error:
            return Health(False, error.message)
        except (Exception, asyncio.CancelledError) as error:
            return Health(False, f"the XTTS checkpoint couldn't be loaded ({type(error).__name__}); the log says why")
        worker = loaded.worker
        if not worker.alive:
            return Health(False, worker.trouble or "XTTS's thread ended or is stuck; the next reply loads it anew")
        if not self._options.streams and not worker.cost.most(1) and not loaded.held:
            return Health(False, refusal([], worker.cost.of(1)).message)
        return Health(True)

    async def aclose(self) -> None:
        """End everything under way and free the memory."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*(asyncio.to_thread(one.worker.close) for one in self._all()))
        self._loading.clear()
        self._retired.clear()

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
        loaded = await self._get(Own.of(voice).folder or self._folder)
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
            self._close_if_retired(loaded)

    async def prepare(self, voice: Voice) -> str:
        """Make a voice ready to speak, and say what was done.

        Raises:
            EngineError: It can't be; says why.
        """
        loaded = await self._get(Own.of(voice).folder or self._folder)
        latents = await asyncio.to_thread(self._voices.latents, loaded.checkpoint, voice)
        of = f"{len(voice.samples)} recordings" if voice.samples else "a speaker of the checkpoint"
        return f"xtts speaks as {voice.id} from {of}, with checkpoint {latents.checkpoint[:16]}."

    def _admit(self, loaded: Loaded) -> None:
        """Let a reply in, or not; nothing may be awaited between this and counting it.

        Raises:
            EngineFull: There is no room for it.
        """
        cost = loaded.worker.cost
        every = self._all()
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

    # --- checkpoints ---

    def _all(self) -> list[Loaded]:
        """Everything that is loaded."""
        return [one for folder in self._loading if (one := self._ready(folder))] + self._retired

    def _ready(self, folder: Path) -> Loaded | None:
        task = self._loading.get(folder)
        if task is None or not task.done() or task.cancelled() or task.exception():
            return None
        return task.result()

    async def _get(self, folder: Path) -> Loaded:
        """The checkpoint in a folder, loaded where it isn't yet."""
        if self._closed:
            raise EngineUnavailable("XTTS was closed.")
        task = self._loading.get(folder)
        loaded = self._ready(folder)
        if loaded is not None and not loaded.worker.alive:
            self._retire(loaded)
            task = None
        if task is None:
            if folder not in self._loading:
                self._make_room()
            task = self._load(folder)
        if folder in self._used:
            self._used.remove(folder)
        self._used.append(folder)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="look at xtts checkpoints")
        return await asyncio.shield(task)

    def _load(self, folder: Path) -> asyncio.Task[Loaded]:
        task = asyncio.create_task(asyncio.to_thread(load, folder, self._options), name="load xtts")
        self._loading[folder] = task

        def done(task: asyncio.Task[Loaded]) -> None:
            if task.cancelled():
                return
            if (error := task.exception()) is None:
                if self._closed:
                    task.result().worker.close(0)
                return
            logger.error("an XTTS checkpoint couldn't be loaded", extra={"reason": str(error)})
            asyncio.get_running_loop().call_later(AGAIN_AFTER, self._forget, folder, task)

        task.add_done_callback(done)
        return task

    def _forget(self, folder: Path, task: asyncio.Task[Loaded]) -> None:
        """Let a checkpoint that couldn't be loaded be tried again."""
        if self._loading.get(folder) is task:
            del self._loading[folder]

    def _make_room(self) -> None:
        """Retire the checkpoint that was asked for longest ago, if there are as many as may be.

        Raises:
            EngineFull: All of them speak.
        """
        if len(self._loading) < MOST_CHECKPOINTS:
            return
        for folder in self._used:
            loaded = self._ready(folder)
            if folder != self._folder and loaded is not None and not loaded.held:
                del self._loading[folder]
                self._retire(loaded)
                return
        raise EngineFull(f"XTTS holds {MOST_CHECKPOINTS} checkpoints, and all of them are in use.", retry_after=2.0)

    def _retire(self, loaded: Loaded) -> None:
        """Close a checkpoint once the replies that it speaks are over."""
        loaded.retired = True
        self._retired.append(loaded)
        self._close_if_retired(loaded)

    def _close_if_retired(self, loaded: Loaded) -> None:
        if loaded.retired and not loaded.held and loaded in self._retired:
            self._retired.remove(loaded)
            asyncio.get_running_loop().run_in_executor(None, loaded.worker.close)

    async def _look(self) -> None:
        """Take in checkpoints whose files were rewritten, once they stay the same; running replies go on."""
        seen: dict[Path, str] = {}
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for folder in list(self._loading):
                old = self._ready(folder)
                if old is None:
                    continue
                now = await asyncio.to_thread(stamp, folder)
                if not now or now == old.stamp:
                    seen.pop(folder, None)
                elif seen.get(folder) == now:
                    await self._renew(folder, old, now)
                else:
                    seen[folder] = now

    async def _renew(self, folder: Path, old: Loaded, now: str) -> None:
        try:
            new = await asyncio.to_thread(load, folder, self._options)
        except Exception as error:
            logger.error("a rewritten XTTS checkpoint can't be used; the old one goes on", extra={"reason": str(error)})
            old.stamp = now
            return
        if self._ready(folder) is not old:
            await asyncio.to_thread(new.worker.close)
            return
        self._loading[folder] = asyncio.create_task(_given(new))
        await self._loading[folder]
        self._retire(old)
        logger.info("a rewritten XTTS checkpoint was taken in", extra={"checkpoint": new.checkpoint.fingerprint[:16]})


async def _given(loaded: Loaded) -> Loaded:
    return loaded


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
