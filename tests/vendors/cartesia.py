"""A server that speaks Cartesia's WebSocket and knows its voices.

After https://docs.cartesia.ai/api-reference/tts/websocket and .../use-the-api/tts-websocket/contexts.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.vendors.spoken import SpeakingServer


@dataclass
class CartesiaServer(SpeakingServer):
    """Cartesia, as far as it is called."""

    in_stream: dict[str, Any] | None = None
    """An error event that it sends instead of sound."""
    impatient: bool = False
    """End a context where no text follows at once, as it does after a second."""

    def app(self) -> web.Application:
        """The server."""
        app = web.Application()
        app.router.add_get("/voices/{voice}", self._voice)
        app.router.add_get("/tts/websocket", self._speak)
        return app

    def _refused(self, request: web.Request) -> web.Response | None:
        self.requests.append(str(request.rel_url))
        given = request.headers.get("X-API-Key") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        assert request.headers["Cartesia-Version"]
        if given != self.key:
            return web.json_response({"error_code": "invalid_api_key", "message": f"Bad key {given}"}, status=401)
        if self.trouble.status:
            body = self.trouble.body or {"error_code": "trouble", "title": "No", "message": "no"}
            return web.json_response(body, status=self.trouble.status, headers=self.trouble.headers)
        return None

    async def _voice(self, request: web.Request) -> web.Response:
        if refusal := self._refused(request):
            return refusal
        if request.match_info["voice"] not in self.voices:
            return web.json_response({"error_code": "voice_not_found", "message": "no"}, status=404)
        return web.json_response({"id": request.match_info["voice"], "name": "A", "language": "en"})

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refused(request):
            return refusal
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        self.opened += 1
        self.open += 1
        queues: dict[str, asyncio.Queue[str | None]] = {}
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            async for message in socket:
                fields = json.loads(message.data)
                self.asked.append(fields)
                context = fields["context_id"]
                if fields.get("cancel"):
                    self.stopped.append(context)
                    queues[context].put_nowait(None)
                    continue
                if problem := self._problem(fields):
                    await socket.send_json({"type": "error", "done": True, "context_id": context, **problem})
                    continue
                form = {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 24_000}
                assert fields["output_format"] == form and fields["max_buffer_delay_ms"] == 0
                if context not in queues:
                    assert fields["transcript"], "nothing is said in a new context"
                    self.contexts.append(context)
                    queues[context] = asyncio.Queue()
                    tasks[context] = asyncio.create_task(self._context(request, socket, context, queues[context]))
                assert not tasks[context].done(), "the context has ended"
                if fields["transcript"]:
                    self.texts.append((context, fields["transcript"]))
                    queues[context].put_nowait(fields["transcript"].strip())
                if not fields["continue"]:
                    queues[context].put_nowait(None)
        finally:
            self.open -= 1
            for task in tasks.values():
                task.cancel()
        return socket

    def _problem(self, fields: dict[str, Any]) -> dict[str, Any] | None:
        if self.in_stream:
            return self.in_stream
        if fields["voice"]["id"] not in self.voices:
            return {"status_code": 404, "error_code": "voice_not_found", "title": "Not found", "message": "no"}
        if fields["model_id"] != self.model:
            return {"status_code": 404, "error_code": "model_not_found", "title": "Not found", "message": "no"}
        return None

    async def _context(
        self, request: web.Request, socket: web.WebSocketResponse, context: str, queue: asyncio.Queue[str | None]
    ) -> None:
        head = {"context_id": context, "status_code": 206}
        while (text := await queue.get()) is not None:
            async for sound in self.pieces(request, text):
                await socket.send_json({**head, "type": "chunk", "data": sound, "done": False, "step_time": 1.0})
                if context in self.stopped:
                    # It goes on for a moment after the word came.
                    await socket.send_json({**head, "type": "chunk", "data": sound, "done": False, "step_time": 1.0})
                    return
            if self.impatient and queue.empty():
                break
        await socket.send_json({**head, "type": "done", "done": True})
