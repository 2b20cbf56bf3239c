"""A server that speaks OpenAI's protocol as Groq, vLLM and others do: models, streamed chat, transcriptions."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.vendors.trouble import KEY, Trouble, forever

MODEL = "a-model"


@dataclass
class OpenAIStyle:
    """What it would say, what it was asked, and what goes wrong.

    Attributes:
        prefix: Of all paths: `/openai/v1` at Groq, `/v1` elsewhere.
        key: That callers must send; empty where none is wanted.
    """

    prefix: str = "/openai/v1"
    key: str = KEY
    words: tuple[str, ...] = ("It ", "is ", "noon.")
    models: tuple[str, ...] = (MODEL, "another-model")
    segments: list[dict[str, Any]] = field(default_factory=list)
    trouble: Trouble = field(default_factory=Trouble)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    heard: list[float] = field(default_factory=list)
    """Seconds of each recording."""
    connections: set[int] = field(default_factory=set)
    writing: int = 0
    written: int = 0
    pause: float = 0.0
    """Seconds between the pieces of an answer."""

    def app(self) -> web.Application:
        """The server."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get(self.prefix + "/models", self._list)
        app.router.add_get(self.prefix + "/models/{name:.+}", self._model)
        app.router.add_post(self.prefix + "/chat/completions", self._chat)
        app.router.add_post(self.prefix + "/audio/transcriptions", self._transcribe)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.connections.add(id(request.transport))
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _refusal(401, "invalid_api_key", "Invalid API Key " + request.headers.get("Authorization", ""))
        if self.trouble.status:
            body = self.trouble.body or {"error": {"message": "no: " + str(await request.read()), "code": "trouble"}}
            return web.json_response(body, status=self.trouble.status, headers=self.trouble.headers)
        if self.trouble.hangs_after == 0:
            await forever()
        if self.trouble.cut_after == 0:
            assert request.transport is not None
            request.transport.abort()
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _list(self, _: web.Request) -> web.Response:
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "us"} for name in self.models]
        return web.json_response({"object": "list", "data": listed})

    async def _model(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.models:
            return _refusal(404, "model_not_found", f"The model `{name}` does not exist")
        return web.json_response({"id": name, "object": "model", "created": 0, "owned_by": "us"})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        if asked["model"] not in self.models:
            return _refusal(404, "model_not_found", f"The model `{asked['model']}` does not exist")
        assert asked["stream"] is True
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        self.writing += 1
        try:
            for number, word in enumerate(self.words):
                if not await self._goes_on(request, answer, number):
                    return answer
                delta = {"content": word} if number else {"role": "assistant", "content": word}
                await answer.write(_chunk(delta, None))
                self.written += 1
                await asyncio.sleep(self.pause)
            await answer.write(_chunk({}, "stop"))
            await answer.write(b"data: [DONE]\n\n")
            await answer.write_eof()
        finally:
            self.writing -= 1
        return answer

    async def _goes_on(self, request: web.Request, answer: web.StreamResponse, number: int) -> bool:
        if number == self.trouble.hangs_after:
            await forever()
        if number == self.trouble.cut_after:
            assert request.transport is not None
            request.transport.abort()
            return False
        if number == self.trouble.breaks_after:
            await answer.write(b'data: {"error": {"message": "over capacity", "type": "server_error"}}\n\n')
        if number in (self.trouble.ends_after, self.trouble.breaks_after):
            await answer.write_eof()
            return False
        return True

    async def _transcribe(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        with wave.open(io.BytesIO(file.file.read())) as recording:
            assert (recording.getframerate(), recording.getnchannels(), recording.getsampwidth()) == (16_000, 1, 2)
            self.heard.append(recording.getnframes() / 16_000)
        self.asked.append({name: value for name, value in form.items() if name != "file"})
        text = "".join(segment["text"] for segment in self.segments)
        return web.json_response({"text": text, "language": "english", "duration": 1.0, "segments": self.segments})


def segment(text: str, no_speech: float = 0.01, log_probability: float = -0.2, compression: float = 1.1) -> Any:
    """One segment of `verbose_json`."""
    return {
        "id": 0, "seek": 0, "start": 0.0, "end": 1.0, "text": text, "tokens": [1], "temperature": 0.0,
        "avg_logprob": log_probability, "compression_ratio": compression, "no_speech_prob": no_speech,
    }  # fmt: skip


def _chunk(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "invalid", "code": code}}, status=status)
