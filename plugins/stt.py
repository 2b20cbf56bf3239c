"""Any `Transcriber` as LiveKit Agents speech-to-text, for whole utterances.

Conversations don't use it: their ear (conversation/ear_faces.py) transcribes while audio arrives. It is
for agents of your own that want our engines with LiveKit's turn-taking.
"""

from __future__ import annotations

from livekit.agents import APIConnectionError, APIConnectOptions, LanguageCode, stt
from livekit.agents.types import NOT_GIVEN, NotGivenOr
from livekit.agents.utils import AudioBuffer, is_given

from engines.types import EngineError, Transcriber
from plugins.audio import heard_audio


def speech_event(kind: stt.SpeechEventType, text: str, language: str) -> stt.SpeechEvent:
    """One transcript as the framework's event."""
    return stt.SpeechEvent(
        type=kind, alternatives=[stt.SpeechData(language=LanguageCode(language), text=text, confidence=1.0)]
    )


class EngineSTT(stt.STT[str]):
    """Transcribes whole utterances with an engine of ours."""

    def __init__(self, transcriber: Transcriber, language: str | None = None) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._transcriber = transcriber
        self._language = language

    @property
    def model(self) -> str:
        """The engine's model."""
        return self._transcriber.info.model

    @property
    def provider(self) -> str:
        """The engine's name."""
        return self._transcriber.info.name

    async def _recognize_impl(
        self, buffer: AudioBuffer, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions
    ) -> stt.SpeechEvent:
        try:
            heard = await self._transcriber.transcribe(
                heard_audio(buffer), language if is_given(language) else self._language
            )
        except EngineError as error:
            raise APIConnectionError(error.message) from error
        return speech_event(stt.SpeechEventType.FINAL_TRANSCRIPT, heard.text, heard.language)
