"""The chat service, port 8002: kept conversations on `/chat`, stateless ones on the OpenAI-compatible paths."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from pydantic import StringConstraints

from engines import wire
from engines.select import answering, named
from engines.types import ChatModel, EngineError
from library import LibraryError
from services import chat_openai, sse
from services.asked import Asked
from services.chat_turns import SessionLocks, Turn
from services.errors import error_body
from services.live import LiveResponse, while_listening
from services.part import Part
from settings import Settings

logger = logging.getLogger("voice_node.services")

LONGEST_TEXT = 20_000


class ChatRequest(Asked):
    """The body of `/chat`."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_TEXT)]
    session_id: str | None = None
    """A new conversation is begun where there is none."""
    personality: str | None = None
    """The one that the conversation was last held with where None."""
    stream: bool = False


def create(settings: Settings, engine: ChatModel) -> FastAPI:
    """The service's app over `engine`, which it starts and closes."""
    part = Part("chat", "Voice Node chat", settings, engine, with_library=True)
    app = part.app
    locks = SessionLocks()

    def turn(asked: ChatRequest, model: ChatModel) -> Turn:
        return Turn(
            part.library,
            model,
            locks,
            settings.conversations.history_messages,
            asked.session_id if asked.session_id is not None else uuid.uuid4().hex,
            asked.text,
            asked.personality or None,
            asked.stream,
        )

    async def answered(request: Request, asked: ChatRequest, model: ChatModel) -> Response | dict[str, Any]:
        this = turn(asked, model)
        if asked.stream:
            return LiveResponse(_events(this, part), sse.MEDIA_TYPE)
        return await while_listening(request, _whole(this, part))

    @app.post(wire.CHAT, response_model=None)
    async def chat(request: Request, asked: ChatRequest) -> Response | dict[str, Any]:
        return await answered(request, asked, part.engine)

    @app.post(wire.CHAT_GROQ, response_model=None)
    async def chat_groq(request: Request, asked: ChatRequest) -> Response | dict[str, Any]:
        # In a line of one, where its deadlines are kept: a cloud can hang.
        groq = part.also("groq", lambda: answering(settings, [named(settings, "chat", "groq", "service")]))
        return await answered(request, asked, groq)

    @app.get(wire.CHAT + "/{session_id:path}")
    async def history(session_id: str) -> dict[str, Any]:
        messages = await part.library.conversations.messages(session_id)
        return {
            "session_id": session_id,
            "messages": [{"role": each.role, "content": each.content, "at": each.at} for each in messages],
        }

    @app.delete(wire.CHAT + "/{session_id:path}")
    async def forget(session_id: str) -> dict[str, Any]:
        async with locks.turn(session_id):
            return {"session_id": session_id, "forgotten": await part.library.conversations.forget(session_id)}

    chat_openai.add_paths(app, part)
    return app


def _answer(turn: Turn, said: str) -> dict[str, Any]:
    assert turn.personality is not None
    return {
        "response": said.strip(),
        "session_id": turn.session_id,
        "personality": turn.personality.id,
        "model": turn.engine.info.model,
    }


async def _whole(turn: Turn, part: Part[ChatModel]) -> dict[str, Any]:
    async with aclosing(part.timed(turn.pieces())) as pieces:
        said = "".join([piece async for piece in pieces])
    return _answer(turn, said)


async def _events(turn: Turn, part: Part[ChatModel]) -> AsyncGenerator[bytes, None]:
    """The turn as server-sent events; an engine or a database that fails midway ends them with an error."""
    said: list[str] = []
    try:
        async with aclosing(part.timed(turn.pieces())) as pieces:
            async for piece in pieces:
                said.append(piece)
                yield sse.event({"delta": piece})
    except EngineError as error:
        if not said:
            raise
        yield sse.event(error_body(error.code, error.message))
    except LibraryError as error:
        if not said:
            raise
        logger.error("a turn could not be stored: %s", error, extra={"session": turn.session_id})
        yield sse.event(error_body("unavailable", "The turn can't be kept now; ask again later."))
    else:
        yield sse.event(_answer(turn, "".join(said)))
    yield sse.done()
