"""The text-to-speech service, port 8003: replies over WebSockets, whole texts on the OpenAI-compatible path."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Response, WebSocket
from pydantic import Field, StringConstraints

from engines import wire
from engines.failover import Line
from engines.select import named, speaking
from engines.types import Cloning, EngineError, Synthesizer, Voice
from services.asked import Asked
from services.audio_encode import FORMATS, encoded
from services.errors import ApiError
from services.live import LiveResponse
from services.part import Part
from services.sockets import accept, ws_engine_error
from services.tts_stream import ReplySocket
from settings import Settings

CLOUD_VOICES = ("cartesia", "elevenlabs")
"""Engines with a WebSocket path of their own."""

LONGEST_TEXT = 20_000


class SpeechRequest(Asked):
    """The body of `/v1/audio/speech`, as far as it is read; whatever model is named, the service's own speaks."""

    input: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_TEXT)]
    voice: str | None = None
    """Id of a voice; an unknown one gets the default."""
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    speed: Annotated[float, Field(ge=0.25, le=4)] = 1.0
    stream_format: Literal["audio"] = "audio"


def create(settings: Settings, engine: Synthesizer) -> FastAPI:
    """The service's app over `engine`, which it starts and closes."""
    part = Part("tts", "Voice Node text to speech", settings, engine, with_library=True)
    app = part.app

    async def find_voice(voice: str | None, personality: str | None) -> tuple[Voice, str | None]:
        if voice or not personality:
            return await part.library.voices.resolve(voice), None
        who = await part.library.personalities.resolve(personality)
        return await part.library.voices.resolve(who.voice), who.language

    def cloud(name: str) -> Synthesizer:
        # In a line of one, where its deadline is kept: a cloud can hang.
        return part.also(name, lambda: speaking(settings, [named(settings, "tts", name, "service")]))

    async def speak(ws: WebSocket, name: str | None) -> None:
        if not await accept(ws, settings):
            return
        try:
            voice_of = part.engine if name is None else cloud(name)
        except EngineError as error:
            await ws_engine_error(ws, error, close=True)
            return
        await ReplySocket(ws, part, voice_of, find_voice).run()

    @app.websocket(wire.TTS_STREAM)
    async def stream(ws: WebSocket) -> None:
        await speak(ws, None)

    @app.websocket(wire.TTS_STREAM + "/{name}")
    async def stream_of(ws: WebSocket, name: str) -> None:
        if name in CLOUD_VOICES:
            await speak(ws, name)
        else:
            await app.router.default(ws.scope, ws.receive, ws.send)

    @app.post(wire.OPENAI_SPEECH, response_model=None)
    async def speech(asked: SpeechRequest) -> Response:
        voice, language = await find_voice(asked.voice, None)
        voice = dataclasses.replace(voice, rate=voice.rate * asked.speed)
        chunks = part.timed(part.engine.speak(asked.input, voice, language))
        return LiveResponse(encoded(chunks, asked.response_format), FORMATS[asked.response_format][0])

    @app.post("/voices/{id}/prepare")
    async def prepare(id: str) -> dict[str, Any]:
        voice = await part.library.voices.get(id)
        if voice is None:
            raise ApiError(404, "unknown_voice", f"There is no voice '{id}'.")
        engines = part.engine.engines if isinstance(part.engine, Line) else (part.engine,)
        cloning = [engine for engine in engines if isinstance(engine, Cloning)]
        details = [await engine.prepare(voice) for engine in cloning]
        return {
            "voice": voice.id,
            "engine": (cloning[0] if cloning else part.engine).info.name,
            "prepared": True,
            "detail": " ".join(details)
            or f"{part.engine.info.name} speaks in any voice at once; there was nothing to prepare.",
        }

    return app
