"""One utterance being searched by one PocketSphinx decoder: words while sound arrives, whole text at a settling.

A running search gets words wrong that its closing pass (bestpath) gets right, and a search can't go on after
it. So a settling closes the search, keeps the words before the last pause, and takes the sound after that pause
into the next search: a settling in the middle of a word doesn't tear it apart. Long speech is closed at pauses
as well, which keeps the closing pass short and the memory bounded.

Measured on 30 everyday sentences in four flite voices (word error rate; median and slowest closing pass):
running hypothesis alone 0.12, none; bestpath 0.07, 11 and 26 ms; with its language weight at 12 instead of 9.5
0.06, the same time; fwdflat too 0.04, but 63 and 155 ms, too late for a reply that is to begin in 200 ms. Settled
every 0.2 to 1 s in the middle of words 0.11, where parting at each settling gave 0.13.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from pocketsphinx import Decoder

from engines.stt.pocketsphinx_cepstra import CepstralMean
from engines.types import HEARD_RATE

_SECOND = HEARD_RATE * 2
"""Bytes of a second of sound."""

_FRAME = _SECOND // 100
"""Bytes of one of PocketSphinx's frames (10 ms)."""

MEASURED = 40
"""Frames of sound whose mean cepstrum a search begins with."""

SHORTEST = 8
"""Frames of sound that may be a word; less is a click."""

RUN_IN = _SECOND * 3 // 10
"""Bytes of silence (0.3 s) kept in front of speech."""

PATIENCE = _SECOND * 2
"""Bytes gathered (2 s) after which the search begins with as much sound as there is."""

LEAP = 15.0
"""A rise in loudness (coefficient 0, about 13 dB) that shows wordless sound before it to be background."""

PAUSE = 12
"""Frames of silence between words at which a search may be parted from the next."""

LONG, LONGEST = _SECOND * 5, _SECOND * 15
"""Bytes after which a search is closed at the next pause of `LONG_PAUSE` frames, and in any case."""
LONG_PAUSE = 25

_NOISE = re.compile(r"<[^>]*>|\[[^\]]*\]|\+\+[^+]*\+\+|\(\d+\)")


def load() -> Decoder:
    """A decoder with the English model of the wheel: 0.3 to 0.9 s, 90 MB."""
    return Decoder(loglevel="FATAL", samprate=HEARD_RATE, fwdflat=False, bestpathlw=12.0)


def plain(words: str) -> str:
    """Words as people write them: without marks of silence, noise and alternative pronunciations."""
    return " ".join(_NOISE.sub(" ", words).lower().split())


@dataclass(frozen=True, slots=True)
class Part:
    """Words between two pauses; seconds from the utterance's beginning."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    text: str
    """Empty for silence and noise; frames are of the search, `end` excluded."""


class Search:
    """What has been understood of one utterance, and the search for the rest of it."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._mean = CepstralMean()
        self._parts: list[Part] = []
        self._tail: list[Part] = []
        """Words after the last pause at the last settling; searched again if more sound comes."""
        self._running = ""
        self._sound = bytearray()
        """Sound of the running search, or gathered for the next one."""
        self._begins_at = 0
        """Where `_sound` begins in the utterance, in bytes."""
        self._searching = False
        self._loudness = -np.inf
        """The loudest frame when the search began."""

    @property
    def text(self) -> str:
        """All words so far."""
        found = [part.text for part in (*self._parts, *([] if self._searching else self._tail))]
        return " ".join(filter(None, (*found, self._running)))

    @property
    def parts(self) -> list[Part]:
        """What has been settled."""
        return [*self._parts, *self._tail]

    @property
    def seconds(self) -> float:
        """Sound heard."""
        return (self._begins_at + len(self._sound)) / _SECOND

    def hear(self, pcm: bytes) -> None:
        """Take more sound: 16-bit PCM, 16 kHz; best in pieces of 20 to 100 ms."""
        self._sound += pcm
        self._mean.push(np.frombuffer(pcm, np.int16))
        if not self._searching:
            if self._worth_searching():
                self._begin()
            return
        self._decoder.process_raw(pcm)
        self._listen()
        if not self._running and self._mean.loudest > self._loudness + LEAP:
            self._start_over()
        elif len(self._sound) > LONGEST or (len(self._sound) > LONG and self._mean.quiet_tail() >= LONG_PAUSE):
            self._close()

    def settle(self) -> str:
        """Close the search and give the best whole text; more sound may follow."""
        if not self._searching and not self._tail and self._fresh_sound() >= SHORTEST:
            self._begin()
        if self._searching:
            self._close()
        return self.text

    def _fresh_sound(self) -> int:
        """Frames of sound among what is gathered."""
        return self._mean.sound_frames(len(self._sound) // _FRAME)

    def _worth_searching(self) -> bool:
        """Whether what is gathered is enough to begin with; gathered silence is dropped, but for a run-in."""
        if self._tail:
            return True
        sound = self._fresh_sound()
        if sound >= (SHORTEST if self._parts else MEASURED):
            return True
        if sound < SHORTEST:
            limit = RUN_IN if sound == 0 else PATIENCE
            if len(self._sound) > limit:
                self._drop(len(self._sound) - RUN_IN)
            return False
        return len(self._sound) > PATIENCE

    def _drop(self, size: int) -> None:
        """Leave sound at the front out of the search."""
        size -= size % 2
        del self._sound[:size]
        self._begins_at += size

    def _begin(self) -> None:
        self._decoder.set_cmn(self._mean.value())
        self._decoder.start_utt()
        self._searching, self._tail, self._loudness = True, [], self._mean.loudest
        self._decoder.process_raw(bytes(self._sound))
        self._listen()

    def _listen(self) -> None:
        heard = self._decoder.hyp()
        self._running = plain(heard.hypstr) if heard is not None else ""

    def _start_over(self) -> None:
        """Forget a wordless beginning: its loudness belongs to the background, not to the voice that now begins."""
        self._decoder.end_utt()
        self._searching, self._running = False, ""
        self._drop(max(0, len(self._sound) - RUN_IN))
        self._mean = CepstralMean()
        self._mean.push(np.frombuffer(bytes(self._sound), np.int16))

    def _close(self) -> None:
        """End the search; keep its words up to the last pause, and the sound after that for the next one."""
        self._decoder.end_utt()
        self._searching, self._running = False, ""
        words = [_Word(at.start_frame, at.end_frame + 1, plain(at.word)) for at in self._decoder.seg() or ()]
        pauses = [word for word in words if not word.text and word.end - word.start >= PAUSE and word.start > 0]
        length = len(self._sound) // _FRAME
        cut = (pauses[-1].start + pauses[-1].end) // 2 if pauses else 0
        if self._mean.quiet_tail() >= PAUSE:
            cut = max(cut, length - PAUSE // 2)
        elif not cut and len(self._sound) > LONGEST:
            cut = next((word.start for word in reversed(words) if word.text and word.start > 0), length)
        self._parts += self._part([word for word in words if word.start < cut])
        self._tail = self._part([word for word in words if word.start >= cut])
        self._drop(min(len(self._sound), cut * _FRAME))

    def _part(self, words: list[_Word]) -> list[Part]:
        spoken = [word for word in words if word.text]
        if not spoken:
            return []
        at = self._begins_at / _SECOND
        text = " ".join(word.text for word in spoken)
        return [Part(at + spoken[0].start / 100, at + spoken[-1].end / 100, text)]
