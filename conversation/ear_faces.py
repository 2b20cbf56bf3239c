"""The ear's two faces to an `AgentSession`: its speech-to-text and its voice activity detector.

The session runs with `turn_detection="stt"` and no delay of its own, so the ear alone commits turns. The
second face exists because a session pauses a reply under way only when its VAD hears somebody: it shows
the ear's one pass, without hearing anything itself. Both are on livekit-agents' public classes.
"""

from __future__ import annotations

import asyncio

from livekit import rtc
from livekit.agents import (
    APIConnectionError,
    APIConnectOptions,
    stt,
    vad,
)
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import AudioBuffer, is_given

from conversation.ear import (
    Ear,
    EarEvent,
    EarFailed,
    Partial,
    Preflight,
    SpeechGoesOn,
    SpeechRejected,
    SpeechStarted,
    TurnEnded,
)
from engines.types import HEARD_RATE, EngineError
from plugins.audio import heard_audio, samples
from plugins.stt import speech_event


class EarSTT(stt.STT[str]):
    """The ear as the session's speech-to-text."""

    def __init__(self, ear: Ear) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))
        self.ear = ear

    @property
    def model(self) -> str:
        """Model of the engine that transcribes."""
        return self.ear.transcriber.info.model

    @property
    def provider(self) -> str:
        """Name of the engine that transcribes."""
        return self.ear.transcriber.info.name

    async def _recognize_impl(
        self, buffer: AudioBuffer, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions
    ) -> stt.SpeechEvent:
        try:
            heard = await self.ear.transcriber.transcribe(
                heard_audio(buffer), language if is_given(language) else self.ear.language
            )
        except EngineError as error:
            raise APIConnectionError(error.message) from error
        return speech_event(stt.SpeechEventType.FINAL_TRANSCRIPT, heard.text, heard.language)

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Listen; a new stream begins with nothing heard."""
        if is_given(language):
            self.ear.language = language
        return _EarStream(self, conn_options)


class _EarStream(stt.RecognizeStream):
    def __init__(self, face: EarSTT, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=face, conn_options=conn_options, sample_rate=HEARD_RATE)
        self._ear = face.ear

    async def _run(self) -> None:
        self._ear.reset()
        leave = self._ear.subscribe(self._on_event)
        try:
            async for frame in self._input_ch:
                if isinstance(frame, rtc.AudioFrame):
                    self._ear.push(samples(frame))
        finally:
            leave()
            self._ear.reset()

    def _on_event(self, event: EarEvent) -> None:
        kinds = stt.SpeechEventType
        match event:
            case Partial(text):
                self._say(speech_event(kinds.INTERIM_TRANSCRIPT, text, self._ear.language))
            case Preflight(text):
                self._say(speech_event(kinds.PREFLIGHT_TRANSCRIPT, text, self._ear.language))
            case TurnEnded(text, speech_end):
                final = speech_event(kinds.FINAL_TRANSCRIPT, text, self._ear.language)
                final.speech_end_time = speech_end
                self._say(final)
                self._say(stt.SpeechEvent(type=kinds.END_OF_SPEECH, speech_end_time=speech_end))
            case _:
                pass

    def _say(self, event: stt.SpeechEvent) -> None:
        if not self._event_ch.closed:
            self._event_ch.send_nowait(event)


class EarVAD(vad.VAD):
    """The ear as the session's voice activity detector: it shows, it doesn't hear."""

    def __init__(self, ear: Ear) -> None:
        super().__init__(capabilities=vad.VADCapabilities(update_interval=0.032))
        self.ear = ear

    @property
    def model(self) -> str:
        """The ear's own name."""
        return "ear"

    @property
    def provider(self) -> str:
        """Who provides it."""
        return "voice-node"

    def stream(self) -> vad.VADStream:
        """Show the ear's view from now on."""
        return _EarVADStream(self)


class _EarVADStream(vad.VADStream):
    def __init__(self, face: EarVAD) -> None:
        self._ear = face.ear
        self._closed = asyncio.Event()
        self._speaking = False
        self._heard = 0.0
        super().__init__(face)

    def push_frame(self, frame: rtc.AudioFrame) -> None:
        """The ear has heard it already."""

    def flush(self) -> None:
        """The ear's utterances end by the ear's own judgement."""

    def end_input(self) -> None:
        """Nothing more will be pushed."""
        self._closed.set()

    async def _main_task(self) -> None:
        leave = self._ear.subscribe(self._on_event)
        try:
            await self._closed.wait()
        finally:
            leave()

    def _on_event(self, event: EarEvent) -> None:
        kinds = vad.VADEventType
        match event:
            case SpeechStarted(ago):
                self._speaking = True
                self._show(kinds.START_OF_SPEECH, speech=ago)
                self._show(kinds.INFERENCE_DONE, speech=ago)
            case SpeechGoesOn(speech, silence, window):
                self._heard += window
                self._show(kinds.INFERENCE_DONE, speech=speech, silence=silence)
            case SpeechRejected() | TurnEnded():
                # Before the transcript: an end of turn that arrives while this face still shows speech is taken
                # for a contradiction. The two faces' events travel by ways of the same length or longer for it.
                if self._speaking:
                    self._speaking = False
                    self._show(kinds.END_OF_SPEECH)
            case Partial() | Preflight() | EarFailed():
                pass

    def _show(self, kind: vad.VADEventType, *, speech: float = 0.0, silence: float = 0.0) -> None:
        if self._event_ch.closed:
            return
        self._event_ch.send_nowait(
            vad.VADEvent(
                type=kind,
                samples_index=int(self._heard * HEARD_RATE),
                timestamp=self._heard,
                speech_duration=speech,
                silence_duration=silence,
                speaking=self._speaking and silence == 0.0,
                raw_accumulated_speech=speech if silence == 0.0 else 0.0,
                raw_accumulated_silence=silence,
            )
        )
