"""The OpenAI-compatible paths of the chat service: stateless completions, streamed or whole, and the list of models.

Whatever model a caller names, the service's own answers and says its name. Options that would change the answer and
that the engines can't honour are refused; sampling hints beyond temperature are not read.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from engines import wire
from engines.types import ChatModel, EngineError, Message, Role
from services import sse
from services.asked import Asked
from services.errors import ApiError, error_body
from services.live import LiveResponse, while_listening
from services.part import Part

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class TextPart(BaseModel):
    """A piece of a message's content."""

    type: str
    text: str = ""


class CompletionMessage(BaseModel):
    """One message of the conversation so far."""

    role: str
    content: str | list[TextPart] | None = None


class CompletionRequest(Asked):
    """The body of `/v1/chat/completions`, as far as it is read."""

    messages: Annotated[list[CompletionMessage], Field(min_length=1)]
    stream: bool = False
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    stop: str | list[str] | None = None
    prompt_cache_key: str | None = None
    """A hint of the conversation, for the engine's cache."""
    n: Literal[1] | None = None
    tools: Annotated[list[Any] | None, Field(max_length=0)] = None
    logprobs: Literal[False] | None = None
    response_format: dict[str, Any] | None = None


def add_paths(app: FastAPI, part: Part[ChatModel]) -> None:
    """Add the paths to the chat service's app."""

    @app.post(wire.OPENAI_COMPLETIONS, response_model=None)
    async def completions(request: Request, asked: CompletionRequest) -> Response | dict[str, Any]:
        messages = _messages(asked)
        if asked.response_format and asked.response_format.get("type", "text") != "text":
            raise ApiError(400, "bad_request", "response_format: only text can be had.")
        stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
        pieces = _until_stop(
            part.timed(
                part.engine.reply(
                    messages,
                    conversation=asked.prompt_cache_key,
                    max_tokens=asked.max_completion_tokens or asked.max_tokens,
                    temperature=asked.temperature,
                )
            ),
            [stop for stop in stops if stop],
        )
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": part.engine.info.model}
        if asked.stream:
            return LiveResponse(_chunks(pieces, head), sse.MEDIA_TYPE)
        return await while_listening(request, _whole(pieces, head))

    @app.get(wire.OPENAI_MODELS)
    async def models() -> dict[str, Any]:
        info = part.engine.info
        model = {"id": info.model, "object": "model", "created": 0, "owned_by": info.name}
        return {"object": "list", "data": [model]}


def _messages(asked: CompletionRequest) -> list[Message]:
    """The messages as engines read them.

    Raises:
        ApiError: A role or a kind of content that the engines don't take.
    """
    messages = []
    for number, message in enumerate(asked.messages):
        if message.role not in _ROLES:
            known = ", ".join(_ROLES)
            raise ApiError(400, "bad_request", f"messages.{number}.role: one of {known}; tools aren't called here.")
        content = message.content or ""
        if not isinstance(content, str):
            if any(piece.type != "text" for piece in content):
                raise ApiError(400, "bad_request", f"messages.{number}.content: only text is read here.")
            content = "".join(piece.text for piece in content)
        messages.append(Message(_ROLES[message.role], content))
    return messages


async def _until_stop(reply: AsyncGenerator[str, None], stops: Sequence[str]) -> AsyncGenerator[str, None]:
    """The reply up to the first of `stops`, which is left out and ends the engine's work."""
    held = ""
    longest = max(map(len, stops), default=0)
    async with aclosing(reply) as pieces:
        async for piece in pieces:
            held += piece
            ends = [place for stop in stops if (place := held.find(stop)) >= 0]
            if ends:
                held = held[: min(ends)]
                break
            # A stop may be complete only with the next piece.
            sure = len(held) - max(0, longest - 1)
            if sure > 0:
                yield held[:sure]
                held = held[sure:]
    if held:
        yield held


async def _whole(pieces: AsyncGenerator[str, None], head: dict[str, Any]) -> dict[str, Any]:
    async with aclosing(pieces) as reply:
        text = "".join([piece async for piece in reply])
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": "stop"}
    return {**head, "object": "chat.completion", "choices": [choice]}


async def _chunks(pieces: AsyncGenerator[str, None], head: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    """The reply as server-sent events; an engine that fails midway ends them with an error."""
    begun = False

    def chunk(delta: dict[str, str], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse.event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    try:
        async with aclosing(pieces) as reply:
            async for piece in reply:
                yield chunk({"content": piece} if begun else {"role": "assistant", "content": piece}, None)
                begun = True
    except EngineError as error:
        if not begun:
            raise
        yield sse.event(error_body(error.code, error.message))
        return
    yield chunk({}, "stop")
    yield sse.done()
