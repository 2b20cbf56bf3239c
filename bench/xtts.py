"""How fast XTTS speaks here, beside coqui's own `inference_stream` in the same process.

    python bench/xtts.py --full-size                      # random weights of the real size: speed only
    python bench/xtts.py --checkpoint FOLDER --precision int8
    python bench/xtts.py --quality FOLDER                 # real weights: is int8 as good as fp32?

Both speak the same texts with the same number of codes. coqui can do one stream at a time, so N streams are N requests
one after another, and the n-th one's first sound comes after the n-1 before it. It is run at its default chunk of 20
codes and at 5, 10 and 40. Runs of both take turns, and each one's best counts, since other work on the machine can only
slow them down. "Gap-free" is the earliest moment at which playback could have started and never run dry.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil
import torch

from bench.xtts_quality import print_quality
from engines.tts.xtts import checkpoint as checkpoints
from engines.tts.xtts.backends import choose, vocoder
from engines.tts.xtts.batch import Batch
from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.chunks import ChunkPlan, Speed, gap_free_first_audio
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.native import processor
from engines.tts.xtts.network import Backend
from engines.tts.xtts.sampling import Sampling
from engines.tts.xtts.vocoder import SpeechWindow, Vocoder
from engines.types import SPOKEN_RATE
from tests.models import xtts as models

TEXTS = (
    "The ferry leaves at seven in the morning and comes back late in the evening.",
    "I looked it up for you, and the shop on the corner is open until nine today.",
    "Please wait a moment while I ask the others what they think about your plan.",
    "It rained all night, but the road along the river is dry again this morning.",
)
Arrivals = list[tuple[float, int]]


@dataclass(frozen=True)
class Figures:
    """What was measured of one engine with one number of streams; seconds where nothing else is said."""

    engine: str
    streams: int
    first: float
    gap_free: float
    total: float
    real_time_factor: float
    """Seconds until all streams are whole, for a second of one stream's sound: under 1, each is faster than heard."""
    codes_a_second: float
    memory: float
    """Megabytes beside the checkpoint as coqui loads it."""

    @classmethod
    def of(cls, engine: str, arrivals: Sequence[Arrivals], codes: int, memory: float) -> Figures:
        """From when each stream's chunks came."""
        total = max(stream[-1][0] for stream in arrivals)
        sound = sum(samples for stream in arrivals for _, samples in stream) / SPOKEN_RATE
        return cls(
            engine,
            len(arrivals),
            statistics.median(stream[0][0] for stream in arrivals),
            statistics.median(gap_free_first_audio(stream) for stream in arrivals),
            total,
            total / sound * len(arrivals),
            codes / total,
            memory,
        )


def coqui_request(
    loaded: Checkpoint, text: str, latents: Latents, chunk: int, codes: int, clock: Callable[[], float]
) -> Arrivals:
    """One request to coqui: when its chunks came."""
    model: Any = loaded.model
    sampling = Sampling.of(loaded.config)
    began, arrivals = clock(), []
    for piece in model.inference_stream(
        text,
        "en",
        latents.gpt[None],
        latents.speaker[None],
        stream_chunk_size=chunk,
        temperature=sampling.temperature,
        repetition_penalty=sampling.repetition_penalty,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        max_new_tokens=codes,
    ):
        samples = len(piece.cpu())
        arrivals.append((clock() - began, samples))
    return arrivals


def one_after_another(request: Arrivals, streams: int) -> list[Arrivals]:
    """As many requests as streams, each as long as this one, one behind the other."""
    return [[(moment + n * request[-1][0], samples) for moment, samples in request] for n in range(streams)]


def without_end(loaded: Checkpoint) -> None:
    """Let no stream end by itself, so that all have the same number of codes."""
    gpt: Any = loaded.gpt
    with torch.no_grad():
        gpt.mel_head.bias[gpt.stop_audio_token] = -1e4


class Ours:
    """The engine without its service: the rounds of its worker, with the same plan."""

    def __init__(self, loaded: Checkpoint, backend: Backend, slots: int, clock: Callable[[], float]) -> None:
        before = resident()
        self.clock = clock
        self.loaded = loaded
        self.batch = Batch(loaded, backend, slots)
        self.vocoder: Vocoder = vocoder(loaded.decoder, backend)
        self.plan = ChunkPlan()
        self.step = self.code = 0.05
        self.memory = resident() - before
        """Megabytes it took."""

    def request(self, texts: Sequence[str], latents: Latents, most: int, seed: int = 0) -> tuple[list[Arrivals], int]:
        """All texts at once: when each one's chunks came, and how many codes were made."""
        sampling = Sampling.of(self.loaded.config, seed)
        began = self.clock()
        slots = [
            self.batch.join(self.loaded.tokenizer.encode(text.lower(), "en"), latents, sampling, most) for text in texts
        ]
        windows = {slot: SpeechWindow(latents.speaker) for slot in slots}
        waiting, ended = dict.fromkeys(slots, 0), dict.fromkeys(slots, False)
        arrivals: dict[int, Arrivals] = {slot: [] for slot in slots}
        codes = 0
        while not all(ended.values()) or any(waiting.values()):
            running, at = ended.values(), self.clock()
            speed = Speed(step=self.step, code=self.code, streams=max(1, len(running) - sum(running)))
            for one in self.batch.step():
                windows[one.slot].push(one.latent[None])
                waiting[one.slot] += 1
                ended[one.slot] = one.stop
                codes += 1
            now = self.clock()
            self.step += 0.2 * (now - at - self.step)
            due = [
                slot
                for slot in slots
                if waiting[slot] and self._due(speed, waiting[slot], ended[slot], arrivals[slot], now - began)
            ]
            if not due:
                continue
            made = self.vocoder.decode([(windows[slot], ended[slot]) for slot in due])
            done = self.clock()
            self.code += 0.2 * ((done - now) / sum(waiting[slot] for slot in due) - self.code)
            for slot, sound in zip(due, made, strict=True):
                waiting[slot] = 0
                if len(sound):
                    arrivals[slot].append((done - began, len(sound)))
        return [arrivals[slot] for slot in slots], codes

    def _due(self, speed: Speed, waiting: int, ended: bool, sent: Arrivals, now: float) -> bool:
        left = gap_free_first_audio(sent) + sum(samples for _, samples in sent) / SPOKEN_RATE - now if sent else None
        return ended or waiting >= self.plan.next_chunk(speed, waiting, left)


def resident() -> float:
    """Megabytes of this process, without what was freed, and of its tensors on a GPU."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return (
        psutil.Process().memory_info().rss + (torch.cuda.memory_allocated() if torch.cuda.is_available() else 0)
    ) / 1e6


def measure(loaded: Checkpoint, options: argparse.Namespace, device: str, say: Callable[[str], None]) -> list[Figures]:
    """Every engine with every number of streams."""
    latents = next(
        (Latents(*voice, loaded.fingerprint) for voice in loaded.speakers.values()),
        Latents(
            torch.randn(32, loaded.config.model_args.gpt_n_model_channels), torch.zeros(512, 1), loaded.fingerprint
        ),
    )
    clock = time.thread_time if options.cpu_time else time.perf_counter
    engines = {}
    for precision in options.precision:
        say(f"packing {precision}")
        engines[precision] = Ours(loaded, choose(options.backend, precision, device), max(options.streams), clock)
        engines[precision].request(TEXTS[:1], latents, 8)
    coquis: dict[int, Arrivals] = {}
    best: dict[tuple[str, int], Figures] = {}
    for turn in range(options.repeat):
        for chunk in [] if options.without_coqui else options.chunks[: 1 if turn else None]:
            say(f"coqui, chunks of {chunk}")
            request = coqui_request(loaded, TEXTS[0].lower(), latents, chunk, options.codes, clock)
            say(f"  {request[-1][0]:.1f} s")
            if chunk not in coquis or request[-1][0] < coquis[chunk][-1][0]:
                coquis[chunk] = request
        for precision, ours in engines.items():
            for streams in options.streams:
                say(f"ours, {precision}, {streams} streams")
                texts = [TEXTS[n % len(TEXTS)] for n in range(streams)]
                arrivals, codes = ours.request(texts, latents, options.codes, seed=turn)
                made = Figures.of(f"ours {precision}", arrivals, codes, ours.memory)
                say(f"  {made.total:.1f} s")
                kept = best.get((precision, streams))
                best[precision, streams] = made if kept is None or made.total < kept.total else kept
    figures = []
    for streams in options.streams:
        for chunk, request in coquis.items():
            sound = sum(samples for _, samples in request)
            codes = round(sound / SPOKEN_RATE / (1024 / 22050)) * streams
            figures.append(Figures.of(f"coqui, chunk {chunk}", one_after_another(request, streams), codes, 0.0))
        figures += [best[precision, streams] for precision in options.precision]
    return figures


def table(figures: Sequence[Figures]) -> str:
    """For a person, and for bench/RESULTS.md; ratios are to coqui at its default chunk, and at the better one."""
    lines = [
        "| streams | engine | first sound, s | gap-free, s | whole, s | real-time factor | codes/s | MB more"
        " | throughput to coqui (default, best) | gap-free sooner (default, best) |",
        "| --- " * 10 + "|",
    ]
    for one in figures:
        coquis = [other for other in figures if other.streams == one.streams and other.engine.startswith("coqui")]
        ratios = ["", ""]
        if coquis and not one.engine.startswith("coqui"):
            rates, firsts = [other.codes_a_second for other in coquis], [other.gap_free for other in coquis]
            ratios = [
                f"{one.codes_a_second / rates[0]:.1f}, {one.codes_a_second / max(rates):.1f}",
                f"{firsts[0] / one.gap_free:.1f}, {min(firsts) / one.gap_free:.1f}",
            ]
        lines.append(
            f"| {one.streams} | {one.engine} | {one.first:.2f} | {one.gap_free:.2f} | {one.total:.1f}"
            f" | {one.real_time_factor:.2f} | {one.codes_a_second:.1f} | {one.memory:.0f} | {ratios[0]} | {ratios[1]} |"
        )
    return "\n".join(lines)


def machine(device: str) -> str:
    """The processor, its cores and vector extensions, and the GPU where that computes."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    vectors = sorted(flag for flag in processor() if flag.startswith(("avx", "amx", "fma")))
    name = f"{model}, {torch.get_num_threads()} thread(s), {' '.join(vectors)}; torch {torch.__version__}"
    return f"{torch.cuda.get_device_name(device)}; {name}" if device.startswith("cuda") else name


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-size", action="store_true", help="random weights of the real size, else small ones")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint's folder instead of random weights")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--codes", type=int, default=100, help="codes of each stream")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", nargs="+", default=[], help="of ours; default: all that the device has")
    parser.add_argument("--repeat", type=int, default=2, help="turns, of which each engine's best counts")
    parser.add_argument(
        "--cpu-time", action="store_true", help="one thread, by its own CPU time: ratios on a machine that others use"
    )
    parser.add_argument("--chunks", type=int, nargs="+", default=[20, 5, 10, 40], help="of coqui, in codes")
    parser.add_argument("--without-coqui", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quality", type=Path, metavar="CHECKPOINT", help="compare int8 with fp32 on real weights")
    parser.add_argument("--whisper", default="small.en", help="model for --quality")
    options = parser.parse_args()
    if options.cpu_time:
        torch.set_num_threads(1)
    device = ("cuda:0" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    if options.quality:
        print_quality(options.quality, device, options.whisper, options.json)
        return
    options.precision = options.precision or (["fp16"] if device.startswith("cuda") else ["fp32", "int8"])
    with tempfile.TemporaryDirectory() as folder:
        size = {"layers": 30, "width": 1024, "heads": 16} if options.full_size else {}
        where = options.checkpoint or models.base(Path(folder), ends_after=None, **size)
        loaded = checkpoints.load(where, device)
        without_end(loaded)
        figures = measure(loaded, options, device, lambda doing: print(doing, file=sys.stderr, flush=True))
    if options.json:
        print(json.dumps({"machine": machine(device), "figures": [asdict(one) for one in figures]}, indent=2))
        return
    print(machine(device), table(figures), sep="\n\n")


if __name__ == "__main__":
    main()
