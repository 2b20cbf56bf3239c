"""A worker process of the embedded recognizer: decodes many utterances, a little of each in turn.

PocketSphinx holds the interpreter while it decodes, so it works here and not beside an event loop. One thread
reads what has come, decodes one block of one utterance, and reads again: nobody waits for another one's long
utterance. The process ends when its standard input does, so it never outlives who started it.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from pocketsphinx import Decoder

from engines.stt.pocketsphinx_cepstra import CepstralMean
from engines.stt.pocketsphinx_wire import Frame, Frames, Op
from engines.types import HEARD_RATE

BLOCK = HEARD_RATE * 2 * 64 // 1000
"""Bytes of sound (64 ms) decoded before the next utterance has its turn."""

MEASURED = 40
"""Frames of sound (10 ms) whose mean cepstrum decoding begins with."""

LONGEST_WAIT = HEARD_RATE * 2 * 2
"""Bytes gathered (2 s) after which decoding begins with whatever was measured."""

_NOISE = re.compile(r"<[^>]*>|\[[^\]]*\]|\+\+[^+]*\+\+|\(\d+\)")


def _words(hypothesis: str) -> str:
    return " ".join(_NOISE.sub(" ", hypothesis).lower().split())


@dataclass
class Utterance:
    """One utterance: its decoder, the work that waits for it, and what has been understood.

    At every settling the search is closed, since only the closing pass (bestpath; 20 ms in the median) brings
    the words that the running hypothesis still gets wrong: word error rate 0.07 instead of 0.10. Sound that
    follows begins a new search, whose words are appended.
    """

    number: int
    decoder: Decoder
    work: deque[Frame] = field(default_factory=deque)
    gathered: bytearray = field(default_factory=bytearray)
    mean: CepstralMean = field(default_factory=CepstralMean)
    searching: bool = False
    settled: list[dict[str, object]] = field(default_factory=list)
    running: str = ""
    seconds: float = 0.0
    begun_at: float = 0.0

    @property
    def text(self) -> str:
        """The words so far."""
        return " ".join(filter(None, (*(str(part["text"]) for part in self.settled), self.running)))

    def hear(self, pcm: bytes) -> bool:
        """Take a block of sound; whether the words changed."""
        self.seconds += len(pcm) / 2 / HEARD_RATE
        if not self.searching:
            self.gathered += pcm
            self.mean.push(np.frombuffer(pcm, np.int16))
            if self.mean.sound_frames >= MEASURED or len(self.gathered) >= LONGEST_WAIT:
                self.begin()
            return False
        self.decoder.process_raw(pcm)
        return self._update()

    def settle(self) -> str:
        """Close the search and give the whole text; at once where nothing was heard since the last time."""
        if self.searching:
            self.decoder.end_utt()
            self.searching = False
            self.running = ""
            heard = self.decoder.hyp()
            if heard is not None and (text := _words(heard.hypstr)):
                spans = [(part.start_frame, part.end_frame) for part in self.decoder.seg() if _words(part.word)]
                start, end = (spans[0][0], spans[-1][1] + 1) if spans else (0, 0)
                self.settled.append(
                    {"start": self.begun_at + start / 100, "end": self.begun_at + end / 100, "text": text}
                )
        return self.text

    def close(self) -> Decoder:
        """Give the decoder back, ready for the next one."""
        if self.searching:
            self.decoder.end_utt()
            self.searching = False
        return self.decoder

    def begin(self) -> None:
        """Search what was gathered, with the mean measured on it."""
        sound = bytes(self.gathered)
        self.gathered.clear()
        self.begun_at = self.seconds - len(sound) / 2 / HEARD_RATE
        self.decoder.set_cmn(self.mean.value())
        self.decoder.start_utt()
        self.searching = True
        # Decoded as blocks of their own, ahead of what came after, so that others have their turn in between.
        self.work.extendleft(
            Frame(Op.PUSH, self.number, sound[at : at + BLOCK]) for at in reversed(range(0, len(sound), BLOCK))
        )
        self.seconds -= len(sound) / 2 / HEARD_RATE

    def _update(self) -> bool:
        heard = self.decoder.hyp()
        running = _words(heard.hypstr) if heard is not None else ""
        changed, self.running = running != self.running, running
        return changed


class Worker:
    """Everything the process does."""

    def __init__(self, read_from: int, write_to: int) -> None:
        self._in, self._out = read_from, write_to
        self._frames = Frames()
        self._utterances: dict[int, Utterance] = {}
        self._free = [self._load()]
        self._turns: deque[int] = deque()

    @staticmethod
    def _load() -> Decoder:
        # fwdflat costs 90 ms at every settling for 1 % fewer wrong words: too late to be worth it.
        return Decoder(loglevel="FATAL", samprate=HEARD_RATE, fwdflat=False)

    def run(self) -> None:
        """Work until standard input ends."""
        self._send(Frame(Op.READY, 0))
        while True:
            busy = any(utterance.work for utterance in self._utterances.values())
            if busy and not select.select([self._in], [], [], 0)[0]:
                self._work()
                continue
            if not self._utterances and not self._free:
                self._free.append(self._load())  # a spare, loaded while nobody speaks
            data = os.read(self._in, 1 << 16)
            if not data:
                return
            for frame in self._frames.feed(data):
                self._take(frame)
            if busy:
                self._work()

    def _take(self, frame: Frame) -> None:
        if frame.op is Op.OPEN:
            decoder = self._free.pop() if self._free else self._load()
            self._utterances[frame.utterance] = Utterance(frame.utterance, decoder)
            self._turns.append(frame.utterance)
        elif (utterance := self._utterances.get(frame.utterance)) is None:
            return  # cancelled meanwhile
        elif frame.op is Op.CANCEL:
            self._end(utterance)
        elif frame.op is Op.PUSH:
            for at in range(0, len(frame.payload), BLOCK):
                utterance.work.append(Frame(Op.PUSH, frame.utterance, frame.payload[at : at + BLOCK]))
        else:
            utterance.work.append(frame)

    def _work(self) -> None:
        """One piece of work for the utterance whose turn it is."""
        for _ in range(len(self._turns)):
            self._turns.rotate(-1)
            utterance = self._utterances[self._turns[-1]]
            if utterance.work:
                self._do(utterance, utterance.work.popleft())
                return

    def _do(self, utterance: Utterance, frame: Frame) -> None:
        try:
            if frame.op is Op.PUSH:
                if utterance.hear(frame.payload):
                    self._answer(utterance, Op.PARTIAL, utterance.text)
            elif frame.op is Op.ECHO:
                self._send(frame)
            elif not utterance.searching and utterance.gathered:
                utterance.begin()
                utterance.work.append(frame)
            elif frame.op is Op.SETTLE:
                self._answer(utterance, Op.SETTLED, utterance.settle())
            elif frame.op is Op.FINISH:
                text = utterance.settle()
                self._answer(
                    utterance,
                    Op.FINISHED,
                    json.dumps({"text": text, "duration": utterance.seconds, "segments": utterance.settled}),
                )
                self._end(utterance)
        except RuntimeError as error:
            self._answer(utterance, Op.FAILED, str(error))
            self._end(utterance)

    def _end(self, utterance: Utterance) -> None:
        self._free.append(utterance.close())
        del self._utterances[utterance.number]
        self._turns.remove(utterance.number)

    def _answer(self, utterance: Utterance, op: Op, text: str) -> None:
        self._send(Frame(op, utterance.number, text.encode()))

    def _send(self, frame: Frame) -> None:
        data = memoryview(bytes(frame))
        while data:
            data = data[os.write(self._out, data) :]


def main() -> None:
    """Serve standard input until it ends."""
    # Ctrl-C goes to the whole terminal's group; who started us ends us by closing our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not end up among frames
    try:
        Worker(sys.stdin.fileno(), out).run()
    except BrokenPipeError:
        return


if __name__ == "__main__":
    main()
