"""Groq's Whisper as a `Transcriber`: whole recordings, and live utterances sent anew at each pause."""

from __future__ import annotations

import asyncio
import io
import wave

from engines import groq, wire
from engines.cloud import Checkup
from engines.stt.asked_at_pauses import AskedAtPauses
from engines.stt.whisper_guard import why_drop
from engines.tally import tally
from engines.types import CLOUD, HEARD_RATE, Audio, Capacity, EngineInfo, Health, LiveTranscription, Segment, Transcript

SHORTEST = 0.1
"""Seconds of sound below which nothing can have been said; Groq refuses less than 0.01."""


class GroqTranscriber:
    """Whisper at Groq.

    Args:
        api_key: Of Groq.
        model: As Groq names it.
        url: Where Groq is reached.
    """

    def __init__(self, api_key: str, model: str, url: str) -> None:
        self.info = EngineInfo("stt", "groq", model, CLOUD, "Groq's terms; the model's is MIT", paid=True)
        self._vendor = groq.vendor("GROQ_STT_MODEL")
        self._sdk = groq.client(api_key, url)
        self._held = 0
        self._checkup = Checkup(self._vendor, self._ask)
        self._open: set[AskedAtPauses] = set()

    @property
    def capacity(self) -> Capacity:
        """No limit that is known before it is met."""
        return Capacity(self._held, None)

    async def start(self) -> None:
        """Import the client, and ask whether the key and the model are good.

        Raises:
            EngineNotConfigured: They aren't; the message says which setting to change.
            EngineUnavailable: Groq can't be reached.
        """
        await self._checkup.now()

    async def health(self) -> Health:
        """What the last call showed, or what Groq says now."""
        return await self._checkup.health()

    async def aclose(self) -> None:
        """Drop the utterances under way and close the connections."""
        for utterance in list(self._open):
            await utterance.cancel()
        await self._sdk.aclose()

    async def _ask(self) -> None:
        sdk = await self._sdk.get()
        try:
            await sdk.client.models.retrieve(self.info.model)
        except sdk.failures as error:
            raise sdk.engine_error(error, self._vendor, f"model '{self.info.model}'") from error

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Transcribe a whole utterance; see `Transcriber.transcribe`."""
        seconds = len(audio) / HEARD_RATE
        # Whisper wants the language alone: en for en-US.
        spoken = (language or "").lower().replace("_", "-").split("-")[0]
        if seconds < SHORTEST:
            return Transcript("", spoken, seconds)
        sdk = await self._sdk.get()
        self._held += 1
        try:
            answer = await sdk.client.audio.transcriptions.create(
                file=("utterance.wav", await asyncio.to_thread(_wav, audio), "audio/wav"),
                model=self.info.model,
                response_format="verbose_json",
                temperature=0.0,
                **({"language": spoken} if spoken and spoken != "auto" else {}),
            )
            transcript = _transcript(answer.model_dump(), spoken, seconds)
        except (TypeError, AttributeError, KeyError) as error:
            raise self._checkup.failed(self._vendor.unreadable()) from error
        except sdk.failures as error:
            what = f"model '{self.info.model}' and language '{spoken}'"
            raise self._checkup.failed(sdk.engine_error(error, self._vendor, what)) from error
        finally:
            self._held -= 1
        self._checkup.served()
        return transcript

    def stream(self, language: str | None = None) -> LiveTranscription:
        """Open a live utterance. Groq takes no stream: what was said is sent at each pause, from its start."""
        utterance = AskedAtPauses(lambda audio: self.transcribe(audio, language), self._open.discard)
        self._open.add(utterance)
        return utterance


def _wav(audio: Audio) -> bytes:
    """A 16-bit WAV file, 16 kHz."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(HEARD_RATE)
        file.writeframes(wire.audio_to_pcm16(audio))
    return written.getvalue()


def _transcript(answer: dict[str, object], language: str, seconds: float) -> Transcript:
    """The transcript in Groq's `verbose_json`, without what Whisper made up.

    Raises:
        TypeError, KeyError, AttributeError, ValueError: It is none.
    """
    segments = answer.get("segments")
    if not isinstance(segments, list):
        return Transcript(str(answer["text"]).strip(), language, seconds)
    kept: list[Segment] = []
    for segment in segments:
        text = str(segment["text"])
        reason = why_drop(
            text,
            no_speech=float(segment.get("no_speech_prob") or 0.0),
            log_probability=float(segment.get("avg_logprob") or 0.0),
            compression=float(segment.get("compression_ratio") or 0.0),
        )
        if reason:
            tally("segments_refused", engine="groq", reason=reason)
        else:
            kept.append(Segment(float(segment["start"]), float(segment["end"]), text.strip()))
    text = " ".join(segment.text for segment in kept).strip()
    return Transcript(text, language or str(answer.get("language") or ""), seconds, kept)
