"""The one thread that uses a batch: takes in replies and cancellations between steps, and hands out what steps make.

Callers on other threads only ever put something into its inbox. What a step makes goes to each reply's `deliver`, which
must return at once. Where the thread dies, every reply is told, and `alive` says so; somebody starts another worker.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from engines.chat.llama.batch import Batch, Made
from engines.chat.llama.errors import WorkerDied
from engines.chat.llama.pace import Pace
from engines.chat.llama.sampling import Sampling
from engines.types import EngineError

logger = logging.getLogger("voice_node.engines")

Delivery: TypeAlias = Made | EngineError
"""A token, or why there will be none."""


@dataclass(eq=False)
class Request:
    """A reply that is asked for.

    Attributes:
        prompt: Its tokens.
        sampling: How its tokens are drawn.
        max_tokens: How many it has at most, or None.
        conversation: Whose it is, or None.
        deliver: Told each token, on the worker's thread.
        unwanted: Nobody listens any more.
    """

    prompt: Sequence[int]
    sampling: Sampling
    max_tokens: int | None
    conversation: str | None
    deliver: Callable[[Delivery], None]
    unwanted: bool = False


class Worker:
    """A thread over a batch.

    Args:
        batch: Nobody else uses it.
        pace: How much of a prompt a step reads.
        clock: Seconds that only grow.
    """

    def __init__(self, batch: Batch, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self._batch = batch
        self._pace = pace
        self._clock = clock
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._replies: dict[int, Request] = {}
        self._step_began: float | None = None
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="chat-model", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still works."""
        return not self._ended

    @property
    def stuck(self) -> float:
        """Seconds that the present step has been running, 0 between steps."""
        began = self._step_began
        return 0.0 if began is None else self._clock() - began

    def ask(self, request: Request) -> None:
        """Begin a reply with the next step.

        Raises:
            WorkerDied: The thread has ended.
        """
        with self._lock:
            if self._ended:
                raise WorkerDied("The chat model stopped working; ask again.")
            self._inbox.put(request)

    def cancel(self, request: Request) -> None:
        """End a reply before the next step; harmless where it has ended."""
        request.unwanted = True

    def close(self, within: float) -> None:
        """End the thread after the present step, and wait for it, at most `within` seconds."""
        self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(within)

    def _run(self) -> None:
        problem: EngineError = WorkerDied("The chat model is being closed.")
        try:
            while self._take():
                self._step()
        except BaseException as error:
            logger.exception("the chat model's thread ended")
            problem = WorkerDied("The chat model stopped working in the middle of this reply; ask again.")
            problem.__cause__ = error
        finally:
            with self._lock:
                self._ended = True
            self._step_began = None
            left = list(self._replies.values())
            while not self._inbox.empty():
                if (waiting := self._inbox.get_nowait()) is not None:
                    left.append(waiting)
            for one in left:
                self._deliver(one, problem)

    def _take(self) -> bool:
        """Take in what was asked and let go what is unwanted; waits while there is nothing to do."""
        for number, request in list(self._replies.items()):
            if request.unwanted:
                self._batch.leave(number)
                del self._replies[number]
        while True:
            try:
                new = self._inbox.get(block=not self._replies)
            except queue.Empty:
                return True
            if new is None:
                return False
            if not new.unwanted:
                self._join(new)

    def _join(self, request: Request) -> None:
        try:
            number = self._batch.join(request.prompt, request.sampling, request.max_tokens, request.conversation)
        except EngineError as error:
            self._deliver(request, error)
        else:
            self._replies[number] = request

    def _step(self) -> None:
        decoding, prompting = self._batch.decoding, self._batch.prompting
        self._step_began = began = self._clock()
        made, read = self._batch.step(self._pace.piece(others=decoding > 0 or prompting > 1))
        self._step_began = None
        self._pace.took(self._clock() - began, decoding, read)
        for one in made:
            request = self._replies[one.reply]
            if one.ended:
                del self._replies[one.reply]
            self._deliver(request, one)

    def _deliver(self, request: Request, delivery: Delivery) -> None:
        try:
            request.deliver(delivery)
        except RuntimeError:
            # Its event loop is closed: nobody listens.
            request.unwanted = True
