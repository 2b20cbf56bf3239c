"""The test user's voice: flite (Debian package), whose voices PocketSphinx hears well, and how well it was heard."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from engines.types import Audio

_FOLDER = Path(tempfile.gettempdir()) / f"voice-node-speech-{os.getuid()}"


@lru_cache(maxsize=256)
def spoken(text: str, voice: str = "awb", rate: int = 16_000, peak_rms: float | None = None) -> Audio:
    """What flite says, mono in [-1, 1].

    Args:
        text: Plain words.
        voice: awb, rms, kal16 or slt.
        rate: Samples a second.
        peak_rms: Scale so that the loudest 20 ms have this RMS.
    """
    _FOLDER.mkdir(exist_ok=True)
    file = _FOLDER / f"{hashlib.sha256(f'{voice}:{text}'.encode()).hexdigest()[:32]}.wav"
    if not file.exists():
        part = file.with_suffix(f".{os.getpid()}.part")
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(part)], check=True, capture_output=True)
        part.rename(file)
    samples, made_at = soundfile.read(file, dtype="float32")
    if made_at != rate:
        at = np.arange(int(len(samples) * rate / made_at)) * made_at / rate
        samples = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
    if peak_rms is not None:
        frame = rate // 50
        frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
        samples = samples * (peak_rms / float(np.sqrt((frames**2).mean(axis=1)).max()))
    audio: Audio = np.asarray(samples, dtype=np.float32)
    audio.setflags(write=False)
    return audio


def word_error_rate(reference: str, heard: str) -> float:
    """Words wrong, missing or too many, over the words of the reference; case and punctuation don't count."""
    wanted, got = (re.sub(r"[^a-z' ]", " ", text.lower()).split() for text in (reference, heard))
    row = list(range(len(got) + 1))
    for i, word in enumerate(wanted, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1] / max(1, len(wanted))
