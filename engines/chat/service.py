"""A running chat service as an engine, over its OpenAI-compatible streaming path."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import httpx

from engines import wire
from engines.service_client import ServiceEngine
from engines.types import EngineError, Kind, Message


class ServiceChat(ServiceEngine):
    """Chat replies from port 8002; connections are pooled and a closed reply closes its connection, which stops it."""

    kind: Kind = "chat"

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        conversation: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield the reply's text; see `ChatModel.reply`."""
        body: dict[str, Any] = {
            "model": "default",
            "stream": True,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
        }
        hints = {"prompt_cache_key": conversation, "max_tokens": max_tokens, "temperature": temperature}
        body.update({name: value for name, value in hints.items() if value is not None})
        self.held += 1
        try:
            async with self.http.stream("POST", wire.OPENAI_COMPLETIONS, json=body) as answer:
                if answer.status_code != 200:
                    raise await self.refused(answer)
                async with aclosing(_pieces(answer)) as pieces:
                    async for piece in pieces:
                        yield piece
        except httpx.HTTPError as error:
            raise self.lost(error) from error
        finally:
            self.held -= 1


async def _pieces(answer: httpx.Response) -> AsyncGenerator[str, None]:
    """The text of a streamed completion.

    Raises:
        EngineError: The service reported an error on the way, or the stream broke off.
    """
    async for line in answer.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == wire.SSE_DONE:
            return
        try:
            event = json.loads(data)
            if "error" in event:
                raise wire.error_from(*wire.error_in(data))
            piece = event["choices"][0]["delta"].get("content") if event["choices"] else None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EngineError("The chat service sent something that isn't a streamed completion.") from error
        if piece:
            yield piece
    raise EngineError("The chat service's reply broke off.")
