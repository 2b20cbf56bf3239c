"""A server that speaks ElevenLabs' multi-context WebSocket and lists models.

After https://elevenlabs.io/docs/api-reference/text-to-speech/v-1-text-to-speech-voice-id-multi-stream-input.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.vendors.spoken import SpeakingServer


@dataclass
class ElevenLabsServer(SpeakingServer):
    """ElevenLabs, as far as it is called."""

    model: str = "eleven_flash_v2_5"
    in_stream: dict[str, Any] | None = None
    """An error message that it sends instead of sound, then closing with 1008."""

    def app(self) -> web.Application:
        """The server."""
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/text-to-speech/{voice}/multi-stream-input", self._speak)
        return app

    def _refused(self, request: web.Request) -> web.Response | None:
        self.requests.append(str(request.rel_url))
        if request.headers.get("xi-api-key") != self.key:
            detail = {"status": "invalid_api_key", "message": f"Invalid API key {request.headers.get('xi-api-key')}"}
            return web.json_response({"detail": detail}, status=401)
        if self.trouble.status:
            body = self.trouble.body or {"detail": {"code": "trouble", "message": "no"}}
            return web.json_response(body, status=self.trouble.status, headers=self.trouble.headers)
        return None

    async def _models(self, request: web.Request) -> web.Response:
        return self._refused(request) or web.json_response([{"model_id": self.model, "name": "Flash"}])

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refused(request):
            return refusal
        assert request.query["output_format"] == "pcm_24000"
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        self.opened += 1
        self.open += 1
        queues: dict[str, asyncio.Queue[str | None]] = {}
        tasks: list[asyncio.Task[None]] = []
        wrong = self.in_stream
        if request.match_info["voice"] not in self.voices:
            wrong = {"message": "A voice with this voice_id was not found.", "error": "voice_not_found", "code": 1008}
        elif request.query["model_id"] != self.model:
            wrong = {"message": "A model with this model ID does not exist", "error": "No such model", "code": 1008}
        try:
            async for message in socket:
                fields = json.loads(message.data)
                self.asked.append(fields)
                if wrong:
                    await socket.send_json(wrong)
                    await socket.close(code=1008, message=b"refused")
                    break
                context = fields["context_id"]
                if context not in queues:
                    assert fields["text"] == " ", "a context begins with a space"
                    self.contexts.append(context)
                    queues[context] = asyncio.Queue()
                    tasks.append(asyncio.create_task(self._context(request, socket, context, queues[context])))
                elif fields.get("close_context"):
                    # What was flushed before is spoken all the same, as the vendor's documentation says.
                    self.stopped.append(context)
                    queues[context].put_nowait(None)
                else:
                    assert fields["flush"] is True and fields["text"].endswith(" ")
                    self.texts.append((context, fields["text"]))
                    queues[context].put_nowait(fields["text"].strip())
        finally:
            self.open -= 1
            for task in tasks:
                task.cancel()
        return socket

    async def _context(
        self, request: web.Request, socket: web.WebSocketResponse, context: str, queue: asyncio.Queue[str | None]
    ) -> None:
        while (text := await queue.get()) is not None:
            async for sound in self.pieces(request, text):
                await socket.send_json({"audio": sound, "isFinal": None, "alignment": None, "contextId": context})
        await socket.send_json({"audio": None, "isFinal": True, "contextId": context})
