"""Transcripts as subtitles, SubRip (srt) and WebVTT."""

from __future__ import annotations

from collections.abc import Sequence

from engines.types import Segment, Transcript


def srt(transcript: Transcript) -> str:
    """SubRip text."""
    cues = (
        f"{number}\n{_clock(part.start, ',')} --> {_clock(part.end, ',')}\n{part.text.strip()}\n"
        for number, part in enumerate(segments(transcript), 1)
    )
    return "\n".join(cues)


def vtt(transcript: Transcript) -> str:
    """WebVTT text."""
    cues = (
        # An arrow in a cue's text would end it.
        f"{_clock(part.start, '.')} --> {_clock(part.end, '.')}\n{part.text.strip().replace('-->', '->')}\n"
        for part in segments(transcript)
    )
    return "\n".join(["WEBVTT\n", *cues])


def segments(transcript: Transcript) -> Sequence[Segment]:
    """The transcript's segments; a text without any is one from start to end."""
    if transcript.segments or not transcript.text:
        return transcript.segments
    return (Segment(0.0, transcript.duration, transcript.text),)


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(max(0.0, seconds) * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{milliseconds:03}"
