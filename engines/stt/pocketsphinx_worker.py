"""A worker of the embedded recognizer: loads the model once, then forks a process for every utterance.

PocketSphinx holds the interpreter while it decodes and while it loads, and a decoder keeps traces of what it
heard. A fork of a loaded worker is there in about 3 ms, adds 21 MB where a decoder of its own takes 90, shares no
interpreter with another utterance and has never heard anybody. The system shares the cores among them.

Standard input is a socket over which the utterances' sockets arrive. The worker ends when that does, and an
utterance's process when its own socket does, so none outlives who started it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from dataclasses import asdict

from pocketsphinx import Decoder

from engines.stt.pocketsphinx_search import Search, load
from engines.stt.pocketsphinx_wire import LIVE, READY, Frames, Op, packed
from engines.types import HEARD_RATE

BLOCK = HEARD_RATE * 2 * 64 // 1000
"""Bytes of sound (64 ms) decoded between two looks whether anybody still wants the words."""


class Listener:
    """Serves one utterance over its socket."""

    def __init__(self, line: socket.socket, decoder: Decoder) -> None:
        self._line = line
        self._search = Search(decoder)
        self._told = ""
        self._poll = select.poll()
        self._poll.register(line, 0)

    def serve(self) -> None:
        """Decode until nobody listens any more."""
        frames = Frames()
        while data := self._line.recv(1 << 16):
            for op, payload in frames.feed(data):
                if op is Op.PUSH:
                    if not self._hear(payload):
                        return
                elif op is Op.SETTLE:
                    self._settle()

    def _hear(self, pcm: bytes) -> bool:
        """Decode sound; False where nobody listens any more."""
        for at in range(0, len(pcm), BLOCK):
            # The socket hung up says "cancelled", however much sound is still in it.
            if self._poll.poll(0):
                return False
            self._search.hear(pcm[at : at + BLOCK])
        if (text := self._search.text) != self._told:
            self._told = text
            self._line.sendall(packed(Op.PARTIAL, text.encode()))
        return True

    def _settle(self) -> None:
        self._told = self._search.settle()
        parts = [asdict(part) for part in self._search.parts]
        settled = {"text": self._told, "duration": self._search.seconds, "parts": parts}
        self._line.sendall(packed(Op.SETTLED, json.dumps(settled).encode()))


def work(control: socket.socket) -> None:
    """Fork a process for every socket that arrives, until `control` ends."""
    decoder = load()
    # Objects that nobody collects are not written to, and stay shared with the forks.
    gc.collect()
    gc.freeze()
    control.sendall(READY)
    while True:
        urgency, lines, _, _ = socket.recv_fds(control, 1, 1)
        if not urgency:
            return
        if not lines:
            continue
        with socket.socket(fileno=lines[0]) as line:
            if os.fork() == 0:
                _be_listener(control, line, decoder, urgency == LIVE)


def _be_listener(control: socket.socket, line: socket.socket, decoder: Decoder, live: bool) -> None:
    status = 1
    try:
        control.close()
        if not live:
            os.nice(10)
        Listener(line, decoder).serve()
        status = 0
    except ConnectionError:
        status = 0
    except BaseException as error:
        sys.stderr.write(f"the embedded recognizer lost an utterance: {type(error).__name__}\n")
    finally:
        os._exit(status)


def _clear_away(*_: object) -> None:
    """Take leave of ended forks; their processor time counts as this process's from then on, and isn't lost."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    """Serve standard input until it ends."""
    # Ctrl-C goes to the whole terminal's group; who started us ends us by closing our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _clear_away)
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as control:
        os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
        try:
            work(control)
        except ConnectionError:
            return


if __name__ == "__main__":
    main()
