"""The local chat model as a `ChatModel`: loaded once, off the event loop, and restarted where its thread dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from engines.chat.llama.errors import NoFreeSlot, WorkerDied
from engines.chat.llama.loading import Loaded, load
from engines.chat.llama.options import Options
from engines.chat.llama.pace import Pace
from engines.chat.llama.prompts import decoder
from engines.chat.llama.words import Words
from engines.chat.llama.worker import Delivery, Request, Worker
from engines.types import Capacity, EngineError, EngineInfo, EngineUnavailable, Health, Message

logger = logging.getLogger("voice_node.engines")

STUCK_AFTER = 30.0
"""Seconds after which a step counts as hanging: the device is lost, or far too slow for a conversation."""
CLOSE_WITHIN = 5.0


class LlamaChat:
    """A Hugging Face chat model on this machine.

    Args:
        options: Which, where and how.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.info = EngineInfo("chat", "llama", options.model, options.device, _license(options.model))
        self._starting = asyncio.Lock()
        self._loading: asyncio.Task[Loaded] | None = None
        self._loaded: Loaded | None = None
        self._worker: Worker | None = None
        self._pace = Pace()
        self._held = 0
        self._closed = False
        self._trouble = "the model is still being loaded"

    @property
    def capacity(self) -> Capacity:
        """Replies under way, of as many as there are slots."""
        return Capacity(self._held, self._options.slots)

    async def start(self) -> None:
        """Load the model; see `Engine.start`."""
        async with self._starting:
            if self._closed:
                raise EngineUnavailable("The chat model has been closed.")
            if self._loaded is None:
                self._loaded = await self._load()
                self.info = replace(self.info, device=self._loaded.device)
            if self._worker is None or not self._worker.alive:
                if self._worker is not None:
                    logger.warning("the chat model's thread is started again")
                    self._loaded.batch.reset()
                self._worker = Worker(self._loaded.batch, self._pace)

    async def _load(self) -> Loaded:
        """Load the model; a caller that gives up leaves the loading to the next one, as two need two memories."""
        if self._loading is None:
            self._loading = asyncio.create_task(asyncio.to_thread(load, self._options), name="load the chat model")
        try:
            loaded = await asyncio.shield(self._loading)
        except EngineError as error:
            self._loading = None
            self._trouble = error.message
            raise
        self._loading = None
        return loaded

    async def health(self) -> Health:
        """Whether it is loaded and its thread gets on."""
        if self._worker is None:
            return Health(False, self._trouble)
        if self._worker.stuck > STUCK_AFTER:
            return Health(False, f"the chat model has been computing one step for over {STUCK_AFTER:.0f} s; restart it")
        return Health(True)

    async def aclose(self) -> None:
        """End all replies and free the model."""
        self._closed = True
        async with self._starting:
            worker, self._worker, self._loaded = self._worker, None, None
            self._trouble = "it has been closed"
            if worker is not None:
                await asyncio.to_thread(worker.close, CLOSE_WITHIN)

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        conversation: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield the reply's text; see `ChatModel.reply`.

        Args:
            messages: The conversation; where it is too long, whole turns are left out, the oldest first.
            conversation: Whose cache it may go on in.
            max_tokens: As many as the context holds where None.
            temperature: What the model's makers recommend where None; 0 for the likeliest token always.
            top_p: As `temperature`.

        Raises:
            EngineBadInput: The personality and the newest message alone are too long.
            EngineFull: All slots are taken.
            EngineError: It failed.
        """
        if self._held >= self._options.slots:
            raise NoFreeSlot(
                f"All {self._options.slots} slots of the chat model are taken; ask again, or raise CHAT_SLOTS.",
                retry_after=1.0,
            )
        self._held += 1
        try:
            await self.start()
            loaded, worker = self._loaded, self._worker
            if loaded is None or worker is None:
                raise WorkerDied("The chat model has been closed.")
            prompt = await asyncio.to_thread(loaded.prompts.write, messages)
            sampling = loaded.sampling
            if temperature is not None:
                sampling = replace(sampling, temperature=temperature)
            if top_p is not None:
                sampling = replace(sampling, top_p=top_p)
            loop = asyncio.get_running_loop()
            inbox: asyncio.Queue[Delivery] = asyncio.Queue()

            def deliver(made: Delivery) -> None:
                loop.call_soon_threadsafe(inbox.put_nowait, made)

            request = Request(prompt, sampling, max_tokens, conversation, deliver)
            worker.ask(request)
            try:
                words = Words(decoder(loaded.tokenizer))
                ended = False
                while not ended:
                    made = await inbox.get()
                    if isinstance(made, EngineError):
                        raise made
                    if made.error is not None:
                        raise made.error
                    ended = made.ended
                    piece = "" if made.token is None else words.push(made.token)
                    if ended:
                        piece += words.finish()
                    if piece:
                        yield piece
            finally:
                worker.cancel(request)
        finally:
            self._held -= 1


def _license(model: str) -> str:
    return "Llama Community License" if "llama" in model.lower() else "that of the model"
