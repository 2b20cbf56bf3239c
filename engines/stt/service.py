"""A running speech-to-text service as an engine: whole utterances over HTTP, live ones over its WebSocket."""

from __future__ import annotations

import itertools

import httpx

from engines import wire
from engines.service_client import ServiceEngine, SocketPool
from engines.stt.service_utterance import ServiceUtterance
from engines.types import HEARD_RATE, Audio, EngineError, Kind, LiveTranscription, Segment, Transcript


class ServiceTranscriber(ServiceEngine):
    """Speech to text on port 8001; one socket serves many utterances in turn."""

    kind: Kind = "stt"

    def __init__(self, url: str, api_key: str = "") -> None:
        super().__init__(url, api_key)
        self._sockets = SocketPool(self.kind, url, wire.TRANSCRIBE_STREAM, self.headers)
        self._numbers = itertools.count(1)
        self._open: set[ServiceUtterance] = set()

    async def start(self) -> None:
        """Ask the service whether it is ready, and connect, so that the first utterance doesn't wait for it."""
        await super().start()
        self._sockets.give_back(await self._sockets.take())

    async def aclose(self) -> None:
        """Cancel the utterances under way and close all sockets."""
        for utterance in list(self._open):
            await utterance.cancel()
        await self._sockets.aclose()
        await super().aclose()

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Transcribe a whole utterance; see `Transcriber.transcribe`."""
        self.held += 1
        try:
            answer = await self.http.post(
                wire.TRANSCRIBE,
                files={"file": ("utterance.pcm", wire.audio_to_pcm16(audio), "audio/pcm")},
                data={"language": language} if language else {},
                timeout=httpx.Timeout(60.0 + len(audio) / HEARD_RATE, pool=None),
            )
            if answer.status_code != 200:
                raise await self.refused(answer)
            return transcript_in(answer.json())
        except httpx.HTTPError as error:
            raise self.lost(error) from error
        finally:
            self.held -= 1

    def stream(self, language: str | None = None) -> LiveTranscription:
        """Open a live utterance; where the service is full, `settle` or `finish` says so."""
        utterance = ServiceUtterance(self._sockets, str(next(self._numbers)), language, self.lost)
        self.held += 1
        self._open.add(utterance)
        utterance.task.add_done_callback(lambda _: self._ended(utterance))
        return utterance

    def _ended(self, utterance: ServiceUtterance) -> None:
        self.held -= 1
        self._open.discard(utterance)


def transcript_in(body: object) -> Transcript:
    """The transcript in a service's JSON answer.

    Raises:
        EngineError: It isn't one.
    """
    try:
        assert isinstance(body, dict)
        segments = [
            Segment(float(part["start"]), float(part["end"]), str(part["text"])) for part in body.get("segments", ())
        ]
        return Transcript(str(body["text"]), str(body["language"]), float(body["duration"]), segments)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise EngineError("The speech-to-text service sent something that isn't a transcript.") from error
