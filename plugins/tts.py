"""Any `Synthesizer` as LiveKit Agents text-to-speech."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

import numpy as np
from livekit.agents import APIConnectionError, APIConnectOptions, tts
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from livekit.agents.utils import shortuuid

from engines.types import DEFAULT_VOICE, SPOKEN_RATE, EngineError, EngineLate, Synthesizer, Voice
from plugins.audio import frame


class EngineTTS(tts.TTS[str]):
    """Speaks with an engine of ours; `voice` and `language` may be changed between replies."""

    def __init__(self, synthesizer: Synthesizer, voice: Voice = DEFAULT_VOICE, language: str | None = None) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=True), sample_rate=SPOKEN_RATE, num_channels=1)
        self.synthesizer = synthesizer
        self.voice = voice
        self.language = language

    @property
    def model(self) -> str:
        """The engine's model."""
        return self.synthesizer.info.model

    @property
    def provider(self) -> str:
        """The engine's name."""
        return self.synthesizer.info.name

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Speak a whole text."""
        return _Spoken(self, text, conn_options)

    def stream(self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> tts.SynthesizeStream:
        """Speak a text as it is written."""
        return _SpokenStream(tts=self, conn_options=conn_options)


async def _speak(engine: EngineTTS, text: str | AsyncIterable[str], emitter: tts.AudioEmitter) -> None:
    chunks = engine.synthesizer.speak(text, engine.voice, engine.language)
    made = 0
    try:
        async for chunk in chunks:
            if len(chunk):
                emitter.push_frame(frame(chunk, SPOKEN_RATE))
                made += len(chunk)
    except EngineError as error:
        raise APIConnectionError(error.message, retryable=made == 0 and not isinstance(error, EngineLate)) from error
    finally:
        await chunks.aclose()
    if not made:
        # A text without a single speakable character is no failure, but the framework takes silence for one.
        emitter.push_frame(frame(np.zeros(SPOKEN_RATE // 50, np.float32), SPOKEN_RATE))


class _Spoken(tts.ChunkedStream):
    def __init__(self, engine: EngineTTS, text: str, conn_options: APIConnectOptions) -> None:
        self._engine = engine
        super().__init__(tts=engine, input_text=text, conn_options=conn_options)

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=shortuuid("speech_"), sample_rate=SPOKEN_RATE, num_channels=1, mime_type="audio/pcm"
        )
        await _speak(self._engine, self._input_text, output_emitter)


class _SpokenStream(tts.SynthesizeStream):
    def __init__(self, *, tts: EngineTTS, conn_options: APIConnectOptions) -> None:
        self._engine = tts
        super().__init__(tts=tts, conn_options=conn_options)

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=shortuuid("speech_"),
            sample_rate=SPOKEN_RATE,
            num_channels=1,
            mime_type="audio/pcm",
            stream=True,
        )
        output_emitter.start_segment(segment_id=shortuuid("segment_"))
        self._mark_started()
        await _speak(self._engine, self._pieces(), output_emitter)
        output_emitter.end_segment()

    async def _pieces(self) -> AsyncIterator[str]:
        async for piece in self._input_ch:
            if isinstance(piece, str):
                yield piece
