"""WebSocket transport of the old system's wire format: raw PCM in, paced sound out, one conversation per socket."""

from conversation.speech_detector import AudioSpeechDetector

__all__ = ["AudioSpeechDetector"]
