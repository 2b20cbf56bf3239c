"""The speech-to-text service, port 8001: whole recordings over HTTP, live speech over a WebSocket.

On the OpenAI-compatible path any model may be named; hints for decoding (`prompt`, `temperature`) are not read.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import FastAPI, File, Form, Request, Response, UploadFile, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse

from engines import wire
from engines.types import HEARD_RATE, Transcriber, Transcript
from services import subtitles
from services.audio_file import DECODE_WITHIN, MAX_SECONDS, decode
from services.errors import ApiError
from services.live import while_listening
from services.part import Part
from services.sockets import accept
from services.stt_stream import SpeechSocket
from settings import Settings

Recording = Annotated[UploadFile, File()]

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of the largest recording; half an hour of raw sound, days of compressed."""

DECODERS = 2
"""Recordings that are unpacked at once; each may take some hundred megabytes meanwhile."""

DECODER_WITHIN = 20.0
"""Seconds that a recording waits for its turn."""

LONGER = DECODER_WITHIN + DECODE_WITHIN + MAX_SECONDS
"""Seconds that the longest recording may take on top of any call's."""


def create(settings: Settings, engine: Transcriber) -> FastAPI:
    """The service's app over `engine`, which it starts and closes."""
    part = Part(
        "stt",
        "Voice Node speech to text",
        settings,
        engine,
        with_library=False,
        body_limit=BODY_LIMIT,
        longer={wire.TRANSCRIBE: LONGER, wire.OPENAI_TRANSCRIPTIONS: LONGER},
    )
    app = part.app
    decoders = asyncio.Semaphore(DECODERS)

    async def transcribed(request: Request, file: UploadFile, language: str | None) -> Transcript:
        try:
            async with asyncio.timeout(DECODER_WITHIN):
                await decoders.acquire()
        except TimeoutError:
            message = "Other recordings are being unpacked; try again in 5 seconds."
            raise ApiError(503, "full", message, {"Retry-After": "5"}) from None
        try:
            audio = await asyncio.to_thread(decode, await file.read(), file.content_type or "")
        finally:
            decoders.release()
        seconds = settings.limits.answer_within + len(audio) / HEARD_RATE
        began = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                transcript = await while_listening(request, part.engine.transcribe(audio, language or None))
        except TimeoutError:
            raise ApiError(504, "timeout", f"The recording wasn't transcribed within {seconds:.0f} seconds.") from None
        part.seconds.observe(time.perf_counter() - began)
        return transcript

    @app.post(wire.TRANSCRIBE)
    async def transcribe(
        request: Request, file: Recording, language: Annotated[str | None, Form()] = None
    ) -> dict[str, Any]:
        transcript = await transcribed(request, file, language)
        return {
            "text": transcript.text,
            "language": transcript.language,
            "duration": transcript.duration,
            "segments": _parts(transcript),
        }

    @app.post(wire.OPENAI_TRANSCRIPTIONS)
    async def transcriptions(
        request: Request,
        file: Recording,
        language: Annotated[str | None, Form()] = None,
        response_format: Annotated[Literal["json", "text", "verbose_json", "srt", "vtt"], Form()] = "json",
        stream: Annotated[bool, Form()] = False,
    ) -> Response:
        if stream:
            message = (
                f"stream: recordings are answered whole; live speech goes to the WebSocket {wire.TRANSCRIBE_STREAM}"
            )
            raise ApiError(400, "bad_request", message)
        transcript = await transcribed(request, file, language)
        match response_format:
            case "json":
                return JSONResponse({"text": transcript.text})
            case "text":
                return PlainTextResponse(transcript.text + "\n")
            case "srt":
                return PlainTextResponse(subtitles.srt(transcript))
            case "vtt":
                return PlainTextResponse(subtitles.vtt(transcript), media_type="text/vtt")
            case "verbose_json":
                return JSONResponse(
                    {
                        "task": "transcribe",
                        "language": transcript.language,
                        "duration": transcript.duration,
                        "text": transcript.text,
                        "segments": [{"id": number, **each} for number, each in enumerate(_parts(transcript))],
                    }
                )

    @app.websocket(wire.TRANSCRIBE_STREAM)
    async def stream(ws: WebSocket) -> None:
        if await accept(ws, settings):
            await SpeechSocket(ws, part.engine, part.seconds).run()

    return app


def _parts(transcript: Transcript) -> list[dict[str, Any]]:
    return [{"start": part.start, "end": part.end, "text": part.text} for part in subtitles.segments(transcript)]
