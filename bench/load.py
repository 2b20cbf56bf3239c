"""How many can talk at once, and whether that goes on: spoken turns of many conversations, and what they cost.

    python bench/load.py                                       six conversations for 2 minutes
    python bench/load.py --conversations 4 --rooms 1 --minutes 20 --json out.json
    python bench/load.py --url http://localhost:8080           a stack that runs on this machine

Each caller speaks questions in real time, waits for the answer's end, thinks for a moment and asks again; now
and then one barges in. Callers begin one after the other and hang up after a dozen turns to call again. Delays are
measured as in voice_to_voice.py. A turn is answered, or refused in words because the agent is full; one that is
neither is a fault, and makes the exit status 1. Ctrl-C ends the run early and gives the report so far.

Memory is proportional (forked processes share pages). Its growth is the Theil-Sen slope after the first quarter
of the run, with its 95 % interval; a run of a few minutes has too few samples to say much of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import ipaddress
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import load_report
from bench.callers import Callers
from bench.ground import OUT, Ground, machine, serving
from bench.processes import MB, Sample, processes_of, sample
from bench.questions import PATIENCE, QUESTIONS
from bench.socket_caller import frames
from bench.stub_ear import stub_ear

CONVERSATIONS, ROOMS = 6, 0
"""What 2 cores hold with the embedded engines: five callers, one in a room, took 0.7 of a core, p95 0.53 s."""
MINUTES = 2.0
BEGIN_WITHIN = 20.0
"""Seconds over which the callers begin."""
PROGRESS = 10.0
"""Seconds between progress lines, and how far back their delays reach (six times that)."""


class NotHere(ValueError):
    """The address isn't this machine's."""


def check_local(*addresses: str | None) -> None:
    """Refuse addresses beyond this machine: nobody's server is put under load by mistake.

    Raises:
        NotHere: One of them isn't a loopback address.
    """
    for address in addresses:
        if not address:
            continue
        host = urlsplit(address).hostname or ""
        try:
            found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
        except OSError:
            found = set()
        if not found or not all(ipaddress.ip_address(str(ip).partition("%")[0]).is_loopback for ip in found):
            raise NotHere(f"{address} isn't on this machine: load is made on localhost only; run this there")


class Load:
    """One run: callers who talk, and samples of what that costs.

    Args:
        ground: Where they talk.
        conversations: Callers over the WebSocket.
        rooms: Callers in rooms.
        minutes: How long.
        patience: Seconds after which a question counts as unanswered.
    """

    def __init__(
        self, ground: Ground, conversations: int, rooms: int, minutes: float, patience: float = PATIENCE
    ) -> None:
        self.callers = Callers(ground.page, ground.websocket, patience)
        self.samples: list[Sample] = []
        self.people = conversations + rooms
        self._conversations = conversations
        self._rooms = rooms
        self._seconds = minutes * 60
        self._processes: Callable[[], Iterable[int]] = processes_of(ground)
        self.idle = sample(self._processes())
        self.own_cpu = 0.0

    async def run(self) -> None:
        """Talk until the time is over or Ctrl-C; what is under way is brought to its end."""
        loop = asyncio.get_running_loop()
        for ending in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(ending, self.callers.stop.set)
        for number in range(len(QUESTIONS) * 3):
            frames(number)  # made now, not while others talk
        gc.collect()
        gc.freeze()
        self.callers.began = time.monotonic()
        own, began = time.process_time(), time.monotonic()
        apart = min(BEGIN_WITHIN, self._seconds / 6) / max(1, self.people)
        talking = [
            asyncio.create_task(
                self.callers.over_websocket(number, number * apart)
                if number < self._conversations
                else self.callers.in_rooms(number - self._conversations, number * apart)
            )
            for number in range(self.people)
        ]
        watching = asyncio.create_task(self._watch(every=1.0 if self._seconds <= 180 else 5.0))
        try:
            over = asyncio.create_task(self.callers.stop.wait())
            await asyncio.wait({over, *talking}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            self.callers.stop.set()
            await asyncio.wait(talking, timeout=self.callers.patience * 4)
        finally:
            self.own_cpu = 100 * (time.process_time() - own) / (time.monotonic() - began)
            for task in (watching, *talking):
                task.cancel()
            results = await asyncio.gather(watching, *talking, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _watch(self, every: float) -> None:
        """Look at the processes while everybody talks, and say how it goes."""
        said = time.monotonic()
        while True:
            await asyncio.sleep(every)
            if not self.callers.stop.is_set() and self.callers.talking >= self.people * 0.5:
                self.samples.append(await asyncio.to_thread(lambda: sample(self._processes())))
            if time.monotonic() - said >= PROGRESS:
                said += PROGRESS
                print(self._progress(), flush=True)

    def _progress(self) -> str:
        callers, now = self.callers, time.monotonic() - self.callers.began
        turns = callers.turns
        late = load_report.quantiles([turn.first_audible for turn in turns if turn.at > now - 6 * PROGRESS])
        line = (
            f"  {int(now // 60):3d}:{int(now % 60):02d}  {callers.talking}/{self.people} talking, {len(turns)} turns, "
            f"{sum(turn.outcome == 'unanswered' for turn in turns)} unanswered, {len(callers.refusals)} calls refused"
        )
        if late:
            line += f", p50 {late['p50']:.2f} p95 {late['p95']:.2f} s"
        if len(self.samples) > 1:
            last, before = self.samples[-1], self.samples[max(0, len(self.samples) - 11)]
            cpu = 100 * (last.whole_cpu - before.whole_cpu) / max(0.1, last.at - before.at)
            line += f", CPU {cpu:.0f} %, {last.whole_memory / MB:.0f} MB, load {last.load:.1f}"
        return line

    def measured(self) -> dict[str, Any]:
        """Everything measured."""
        return load_report.figures(self.callers, self.idle, self.samples, self.people, self.own_cpu)


def main(arguments: Sequence[str] | None = None) -> int:
    """Talk, measure and print; returns the exit status: 1 where a turn was neither answered nor refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--conversations", type=int, default=CONVERSATIONS, metavar="N", help="over the WebSocket (%(default)s)"
    )
    parser.add_argument("--rooms", type=int, default=ROOMS, metavar="M", help="people in rooms (%(default)s)")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="T", help="how long (%(default)s)")
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=OUT / "load.json",
        metavar="FILE",
        help="write everything measured to a file (bench/out/load.json)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="S",
        help="seconds a question waits for its answer (%(default)s)",
    )
    parser.add_argument("--url", metavar="URL", help="page of a running stack, e.g. http://localhost:8080")
    parser.add_argument("--ws-url", metavar="URL", help="its WebSocket (default: port 8000 of the same host)")
    parser.add_argument(
        "--ear",
        choices=("embedded", "stub"),
        default="embedded",
        help="stub: no recognizer, every utterance is the same question; shows what conversations themselves cost",
    )
    asked = parser.parse_args(arguments)
    if asked.conversations < 0 or asked.rooms < 0 or asked.conversations + asked.rooms < 1 or asked.minutes <= 0:
        parser.error("somebody must talk for some time: --conversations or --rooms, and --minutes, above 0")
    if asked.ear == "stub" and (asked.url or asked.ws_url):
        parser.error("--ear stub is for a stack of its own, without --url")
    try:
        check_local(asked.url, asked.ws_url)
    except NotHere as error:
        parser.error(str(error))
    here = machine()
    print(f"{here['cpu']}, {here['cores']} cores, Python {here['python']}, load average {os.getloadavg()[0]:.1f}")
    print(f"{asked.conversations} conversations, {asked.rooms} rooms, {asked.minutes:g} minutes; Ctrl-C ends it")
    with contextlib.ExitStack() as running:
        environment = running.enter_context(stub_ear()) if asked.ear == "stub" else None
        ground = running.enter_context(serving(asked.url, asked.ws_url, environment))
        time.sleep(3.0)  # what was just started settles
        load = Load(ground, asked.conversations, asked.rooms, asked.minutes, asked.patience)
        asyncio.run(load.run())
    measured = {"machine": here, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **load.measured()}
    measured |= {"ear": asked.ear, "conversations": asked.conversations, "rooms": asked.rooms, "minutes": asked.minutes}
    load_report.show(measured)
    for turn in load.callers.turns:
        if turn.outcome == "unanswered":
            print(f"  {turn.transport} caller {turn.caller} at {turn.at:.0f} s, '{turn.question}': {turn.why}")
    if asked.json:
        each = [asdict(turn) for turn in load.callers.turns]
        series = [asdict(one) | {"at": round(one.at - load.callers.began, 1)} for one in load.samples]
        calls = [asdict(refusal) for refusal in load.callers.refusals]
        everything = {**measured, "each_turn": each, "each_refusal": calls, "samples": series}
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")
        print(f"\nwritten to {asked.json}")
    found = load_report.faults(measured)
    print(f"\n{'every turn was answered or refused' if not found else f'{found} FAULTS'}")
    return int(found > 0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
