"""What Whisper makes up out of silence and noise, told from what it heard by its own figures.

The thresholds are those of OpenAI's reference implementation (Radford et al., "Robust Speech Recognition via
Large-Scale Weak Supervision", 2022, section 4.5).
"""

from __future__ import annotations

NO_SPEECH = 0.6
LOG_PROBABILITY = -1.0
COMPRESSION = 2.4


def why_drop(text: str, *, no_speech: float, log_probability: float, compression: float) -> str:
    """Why a segment isn't to be believed; empty where it is.

    Args:
        text: Of the segment.
        no_speech: Probability that nobody spoke.
        log_probability: Mean over the segment's tokens.
        compression: How much shorter gzip makes the text: repetition shows in it.
    """
    if not text.strip():
        return "empty"
    if no_speech > NO_SPEECH and log_probability < LOG_PROBABILITY:
        return "no_speech"
    if compression > COMPRESSION:
        return "repetition"
    return ""
