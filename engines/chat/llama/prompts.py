"""Messages to the tokens that a model was trained on, within a budget: the personality stays, the oldest turns go."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from engines.chat.llama.errors import ModelUnsuitable, TooLong
from engines.types import EngineError, Message

_AROUND = 8
"""Tokens that a template writes around a message, about."""
_STRIDE = 4
"""Turns leave in strides of this part of the budget: each time the beginning changes, the whole prompt is new."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used."""

    chat_template: Any

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        """The conversation as text."""
        ...

    def __call__(self, text: str, **options: Any) -> Any:
        """Tokens of a text."""
        ...

    def get_added_vocab(self) -> dict[str, int]:
        """Special tokens."""
        ...


class Prompts:
    """Writes prompts for one model. Threads may share it.

    Args:
        tokenizer: The model's.
        budget: Tokens that a prompt should have at most, which leaves room for the reply.
        limit: Tokens that it may have where its newest turn alone is over the budget.

    Raises:
        ModelUnsuitable: The model has no chat template.
    """

    def __init__(self, tokenizer: Tokenizer, budget: int, limit: int) -> None:
        if not tokenizer.chat_template:
            raise ModelUnsuitable("CHAT_MODEL names a model without a chat template; take one for chat ('Instruct').")
        self._tokenizer = tokenizer
        self._budget = budget
        self._limit = limit
        # A tokenizer changes its own state while it works.
        self._lock = threading.Lock()
        special = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special))) if special else None

    def write(self, messages: Sequence[Message]) -> list[int]:
        """The prompt's tokens, up to where the reply begins.

        Raises:
            TooLong: The system message and the newest turn don't fit.
            EngineError: The template refuses the conversation.
        """
        with self._lock:
            system, turns = _turns(self._plain(messages))
            while True:
                kept = turns[self._dropped(system, turns) :]
                prompt = self._tokens([*system, *(message for turn in kept for message in turn)])
                if len(prompt) <= (self._budget if len(kept) > 1 else self._limit):
                    return prompt
                if len(kept) <= 1:
                    raise TooLong(
                        f"The personality and this message together have {len(prompt)} tokens, and the chat model "
                        f"reads {self._limit}; shorten them, or raise CHAT_CONTEXT."
                    )
                turns = kept[1:]

    def _plain(self, messages: Sequence[Message]) -> list[Message]:
        """The messages without the model's own signs in what people say, and one message where one follows its like."""
        plain: list[Message] = []
        for message in messages:
            content = self._special.sub("", message.content) if self._special else message.content
            if plain and plain[-1].role == message.role:
                plain[-1] = Message(message.role, f"{plain[-1].content}\n{content}")
            else:
                plain.append(Message(message.role, content))
        return plain

    def _dropped(self, system: Sequence[Message], turns: Sequence[Sequence[Message]]) -> int:
        """How many of the oldest turns to leave out."""
        sizes = [sum(self._size(message) for message in turn) for turn in turns]
        over = sum(map(self._size, system)) + sum(sizes) - self._budget
        if over <= 0:
            return 0
        stride = max(1, self._budget // _STRIDE)
        goal = -(-over // stride) * stride
        gone = 0
        for number, size in enumerate(sizes[:-1]):
            if gone >= goal:
                return number
            gone += size
        return len(turns) - 1

    def _size(self, message: Message) -> int:
        return _AROUND + len(self._tokenizer(message.content, add_special_tokens=False)["input_ids"])

    def _tokens(self, messages: Sequence[Message]) -> list[int]:
        # jinja2 comes with transformers' chat templates only.
        from jinja2 import TemplateError

        for attempt in (messages, _without_system(messages)):
            try:
                text = self._tokenizer.apply_chat_template(
                    [{"role": message.role, "content": message.content} for message in attempt],
                    tokenize=False,
                    add_generation_prompt=True,
                )
            except TemplateError:
                continue
            ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            return ids
        raise EngineError("The chat model's template takes no conversation of this form; choose another CHAT_MODEL.")


def decoder(tokenizer: Any) -> Callable[[Sequence[int]], str]:
    """The tokenizer's way back from tokens to text, without special tokens."""

    def decode(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    return decode


def _turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """The system messages at the beginning, and the turns, each from a user's message to before the next one."""
    begins = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    turns: list[list[Message]] = []
    for message in messages[begins:]:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return list(messages[:begins]), turns


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The conversation for a template that knows no system: what it says stands before the first user's words."""
    system = "\n".join(message.content for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    first = next((at for at, message in enumerate(rest) if message.role == "user"), 0)
    rest = rest[first:]
    return [Message("user", f"{system}\n\n{rest[0].content}" if rest else system), *rest[1:]]
