"""Continuous batching: replies join and leave between steps, and each step makes a token for every one that is ready.

A row keeps its tokens' keys and values when its reply ends. A prompt that begins with the same tokens goes on from
there: a conversation's next turn in its own row, so that it costs only what is new; a new conversation in a row of its
own, which gets a copy of the longest beginning that any row has, such as the personality's. Rows that no reply uses are
given away, the least recently used first. What is compared are tokens, so nothing can be served that isn't the prompt.

One thread uses a batch; nothing in it waits or knows of asyncio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from engines.chat.llama.errors import BrokenReply, NoFreeSlot, OutOfMemory
from engines.chat.llama.sampling import Chance, Sampling, draw
from engines.chat.llama.slots import Slots, Step, Work
from engines.types import EngineError

logger = logging.getLogger("voice_node.engines")

SHORTEST_COPY = 8
"""A shorter common beginning isn't worth a copy."""

Model: TypeAlias = Callable[..., Any]
"""A causal language model of transformers whose attention is `slots.attend`."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a step made for one reply.

    Attributes:
        reply: By the number that `join` gave it.
        token: The token; None where the model ended the reply itself, or where it broke.
        ended: Whether the reply has left the batch with this.
        error: Why it broke, else None.
    """

    reply: int
    token: int | None
    ended: bool
    error: EngineError | None = None


@dataclass
class _Row:
    held: list[int] = field(default_factory=list)
    """Tokens whose keys and values the row holds."""
    conversation: str | None = None
    prompted: int = 0
    """How many of them were the newest prompt's."""
    used: int = 0
    reply: _Reply | None = None


@dataclass
class _Reply:
    number: int
    row: int
    waiting: list[int]
    """Tokens that the row doesn't hold yet: what is left of the prompt, then the newest token."""
    chance: Chance
    left: int
    prompting: bool = True


class Batch:
    """Replies of one model that are made together.

    Args:
        model: The model.
        device: Where its input goes.
        slots: The caches; they have a row for each reply, and more for conversations between two turns.
        most: How many replies are made at once.
        ends: Tokens that end a reply.
    """

    def __init__(self, model: Model, device: torch.device, slots: Slots, most: int, ends: Collection[int]) -> None:
        self._model = model
        self._device = device
        self._slots = slots
        self._most = most
        self._ends = frozenset(ends)
        self._next = 0
        self._clock = 0
        self.reset()

    def reset(self) -> None:
        """Forget every reply and every row."""
        self._rows = [_Row() for _ in range(self._slots.rows)]
        self._replies: list[_Reply] = []

    @property
    def decoding(self) -> int:
        """How many replies get a token with each step."""
        return sum(not reply.prompting for reply in self._replies)

    @property
    def prompting(self) -> int:
        """How many replies still read their prompt."""
        return len(self._replies) - self.decoding

    def join(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        max_tokens: int | None = None,
        conversation: str | None = None,
    ) -> int:
        """Take in a reply; its prompt is read, in pieces, by the steps that follow.

        Args:
            prompt: Its tokens, at least one.
            sampling: How its tokens are drawn; greedily where None.
            max_tokens: How many it has at most; as many as its row holds where None.
            conversation: Whose row it should go on in, where that is free.

        Returns:
            Its number, which is never given twice.

        Raises:
            NoFreeSlot: As many replies as may be are under way.
            BrokenReply: The prompt is empty, or leaves no room for a token.
        """
        if len(self._replies) >= self._most:
            raise NoFreeSlot(f"All {self._most} slots of the chat model are taken.", retry_after=1.0)
        room = self._slots.positions - len(prompt)
        if not prompt or room < 1:
            raise BrokenReply("The chat model was given a prompt that its context can't hold; raise CHAT_CONTEXT.")
        at = self._place(prompt, conversation)
        row = self._rows[at]
        self._next += 1
        left = room if max_tokens is None else max(1, min(max_tokens, room))
        reply = _Reply(self._next, at, list(prompt[len(row.held) :]), Chance(sampling or Sampling()), left)
        row.conversation, row.prompted, row.reply = conversation, len(prompt), reply
        self._touch(row)
        self._replies.append(reply)
        return reply.number

    def leave(self, number: int) -> None:
        """End a reply and free its slot at once; nothing happens where it has left already."""
        for reply in self._replies:
            if reply.number == number:
                self._end(reply)
                return

    def step(self, piece: int) -> tuple[list[Made], int]:
        """Make a token for every reply that has read its prompt, and read on in the others' prompts.

        Where the model fails, the newest reply of those at work breaks, and the others go on with the next step: it is
        the one whose joining is the likeliest cause, and what was being computed can be computed again.

        Args:
            piece: How many tokens of prompts are read at most; the shortest rest first.

        Returns:
            What was made, and how many tokens of prompts were read.
        """
        at_work = [reply for reply in self._replies if not reply.prompting]
        budget = max(1, piece)
        work = [self._work(reply, 1) for reply in at_work]
        for reply in sorted((one for one in self._replies if one.prompting), key=lambda one: len(one.waiting)):
            if budget:
                at_work.append(reply)
                work.append(self._work(reply, budget))
                budget -= len(work[-1].ids)
        if not at_work:
            return [], 0
        try:
            with _memory(), torch.inference_mode():
                logits = self._forward(work)
                made = self._drawn(at_work, work, logits)
        except Exception as error:
            newest = max(at_work, key=lambda one: (one.prompting, one.number))
            self._end(newest, forget=True)
            return [Made(newest.number, None, True, _named(error))], 0
        return made, max(1, piece) - budget

    def _work(self, reply: _Reply, budget: int) -> Work:
        return Work(reply.row, len(self._rows[reply.row].held), reply.waiting[:budget])

    def _forward(self, work: Sequence[Work]) -> Tensor:
        """Logits after each one's last token, in the order of `work`."""
        step = Step(self._slots, work, self._device)
        output = self._model(
            input_ids=step.ids, position_ids=step.positions, use_cache=False, logits_to_keep=step.last, step=step
        )
        packed = {one.row: place for place, one in enumerate(step.work)}
        logits: Tensor = output.logits[0]
        return logits[[packed[one.row] for one in work]]

    def _drawn(self, at_work: Sequence[_Reply], work: Sequence[Work], logits: Tensor) -> list[Made]:
        ready = [place for place, (reply, one) in enumerate(zip(at_work, work, strict=True)) if _reads(reply, one)]
        tokens = draw(logits[ready], [at_work[place].chance for place in ready]) if ready else []
        for reply, one in zip(at_work, work, strict=True):
            self._rows[reply.row].held += one.ids
            del reply.waiting[: len(one.ids)]
        return [self._told(at_work[place], token) for place, token in zip(ready, tokens, strict=True)]

    def _told(self, reply: _Reply, token: int | None) -> Made:
        if token is None:
            self._end(reply, forget=True)
            error = BrokenReply(
                "The chat model's numbers overflowed in this reply; ask again, or set a wider CHAT_DTYPE."
            )
            return Made(reply.number, None, True, error)
        reply.prompting = False
        reply.left -= 1
        natural = token in self._ends
        ended = natural or not reply.left
        if ended:
            self._end(reply)
        else:
            reply.waiting = [token]
        return Made(reply.number, None if natural else token, ended)

    def _end(self, reply: _Reply, forget: bool = False) -> None:
        row = self._rows[reply.row]
        row.reply = None
        self._replies.remove(reply)
        if forget:
            row.held = []
            row.conversation = None
            self._slots.clear(reply.row)
        self._touch(row)

    def _place(self, prompt: Sequence[int], conversation: str | None) -> int:
        """The row for a prompt, holding as much of its beginning as any row does."""
        # The last token is always computed: the first new one is drawn from what follows it.
        shared = [min(_common(row.held, prompt), len(prompt) - 1) for row in self._rows]
        free = [at for at, row in enumerate(self._rows) if row.reply is None]
        own = [at for at in free if shared[at] and self._continues(self._rows[at], shared[at], conversation)]
        source = max(range(len(shared)), key=lambda at: shared[at])
        target = max(own, key=lambda at: shared[at], default=None)
        if target is None:
            target = min(free, key=lambda at: (bool(self._rows[at].held), self._rows[at].used))
        if shared[source] > shared[target] and shared[source] >= SHORTEST_COPY:
            self._slots.copy(source, target, shared[source])
            self._touch(self._rows[source])
            self._rows[target].held = self._rows[source].held[: shared[source]]
        else:
            del self._rows[target].held[shared[target] :]
        return target

    def _continues(self, row: _Row, shared: int, conversation: str | None) -> bool:
        """Whether a prompt goes on from what a row was asked last."""
        if row.conversation is not None and conversation is not None:
            return row.conversation == conversation
        return shared >= min(row.prompted, len(row.held))

    def _touch(self, row: _Row) -> None:
        self._clock += 1
        row.used = self._clock


def _reads(reply: _Reply, work: Work) -> bool:
    """Whether a step's work leaves nothing waiting, so that a token can be drawn."""
    return len(work.ids) == len(reply.waiting)


def _common(held: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens two beginnings share."""
    most = min(len(held), len(prompt))
    if held[:most] == prompt[:most]:
        return most
    return next(at for at in range(most) if held[at] != prompt[at])


def _named(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    logger.error("the chat model failed in a reply", exc_info=error)
    return BrokenReply(f"The chat model failed with {type(error).__name__}; the log says where.")


@contextmanager
def _memory() -> Iterator[None]:
    """Name what torch says when memory runs out; a GPU has an error of its own for it, a CPU only words."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            "The chat model has no memory left on its device; lower CHAT_SLOTS or CHAT_CONTEXT."
        ) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory("The chat model has no memory left; lower CHAT_SLOTS or CHAT_CONTEXT.") from error
