"""The local chat model: first tokens early and late in a conversation, in company, and beside seven that are speaking.

Token counts are forced and prompts are random tokens, so the figures don't depend on what a model has to say. Each is
measured through the engine's own worker thread, from asking to the token's delivery.
"""

from __future__ import annotations

import queue
import random
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from bench.ground import machine
from engines.chat.llama.batch import Batch, Made
from engines.chat.llama.folder import find
from engines.chat.llama.loading import assemble
from engines.chat.llama.options import Options
from engines.chat.llama.pace import Pace
from engines.chat.llama.sampling import Sampling
from engines.chat.llama.worker import Delivery, Request, Worker

CONVERSATIONS = 8
PERSONALITY, SAID, REPLY = 200, 20, 40
"""Tokens of the personality, of what a person says in a turn, and of the reply."""
LENGTHS = (300, 380, 460, 540, 630, 720, 810, 900)
"""Tokens of the ragged histories."""
TOGETHER = 48
"""Tokens that each of them is asked for."""
COLD = 300
"""Tokens of the prompt of the one who joins."""


@dataclass
class Heard:
    """One reply as it came: seconds from asking to each token, and the tokens."""

    times: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)


class Caller:
    """Asks a worker, and listens."""

    def __init__(self, worker: Worker, clock: Callable[[], float]) -> None:
        self._worker = worker
        self._clock = clock

    def begin(self, prompt: list[int], tokens: int, conversation: str | None) -> tuple[Request, Callable[[], Heard]]:
        """Ask; gives the request, and what waits for the reply's end."""
        heard: queue.SimpleQueue[tuple[float, Delivery]] = queue.SimpleQueue()
        began = self._clock()
        request = Request(
            prompt, Sampling(), tokens, conversation, lambda made: heard.put((self._clock() - began, made))
        )
        self._worker.ask(request)

        def whole() -> Heard:
            reply = Heard()
            while True:
                at, made = heard.get(timeout=600)
                if not isinstance(made, Made):
                    raise made
                if made.error is not None:
                    raise made.error
                assert made.token is not None
                reply.times.append(at)
                reply.tokens.append(made.token)
                if made.ended:
                    return reply

        return request, whole

    def say(self, prompt: list[int], tokens: int, conversation: str | None = None) -> Heard:
        """Ask and wait for the whole reply."""
        return self.begin(prompt, tokens, conversation)[1]()


class Bench:
    """One model, and everything that is measured of it."""

    def __init__(self, model: Any, repeat: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._model = model
        self._words = model.config.get_text_config().vocab_size
        # No token ends a reply.
        model.generation_config.eos_token_id = self._words
        self._repeat = repeat
        self._chance = random.Random(1)
        # Room for all that is kept in one measurement: the tenth turn must not find its row given away.
        self._batch: Batch = assemble(model, Options("bench", slots=CONVERSATIONS, kept=24), 2048)
        self._pace = Pace()

    def measured(self) -> dict[str, Any]:
        """All figures, in seconds and tokens a second."""
        figures: dict[str, Any] = {}
        worker = Worker(self._batch, self._pace, self._clock)
        caller = Caller(worker, self._clock)
        caller.say(self._tokens(200), 20)
        try:
            for measure in (self._turns, self._personality, self._company, self._joining):
                runs = []
                for _ in range(self._repeat):
                    runs.append(measure(caller))
                    print(f"  {', '.join(f'{name} {value:.3g}' for name, value in runs[-1].items())}", flush=True)
                figures |= {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        finally:
            worker.close(30)
        return figures

    def _tokens(self, count: int) -> list[int]:
        return [self._chance.randrange(3, self._words) for _ in range(count)]

    def _turns(self, caller: Caller) -> dict[str, float]:
        """Ten turns of one conversation; the last one from scratch by transformers too."""
        history = self._tokens(PERSONALITY)
        first: list[float] = []
        name = f"turns {self._chance.random()}"
        for _ in range(10):
            history += self._tokens(SAID)
            prompt = list(history)
            reply = caller.say(prompt, REPLY, name)
            first.append(reply.times[0])
            history += reply.tokens
        scratch = caller_from_scratch(self._model, prompt, REPLY)
        return {
            "first turn": first[0],
            "tenth turn": first[9],
            "same tokens as from scratch": float(scratch == reply.tokens),
        }

    def _personality(self, caller: Caller) -> dict[str, float]:
        """Two new conversations with one personality."""
        personality = self._tokens(PERSONALITY)
        cold = caller.say([*personality, *self._tokens(SAID)], 2, f"cold {self._chance.random()}")
        known = caller.say([*personality, *self._tokens(SAID)], 2, f"known {self._chance.random()}")
        return {"new conversation, cold": cold.times[0], "new conversation, personality known": known.times[0]}

    def _company(self, caller: Caller) -> dict[str, float]:
        """Conversations with ragged histories in their rows: their next turns one after another, then together."""
        histories = [self._tokens(length) for length in LENGTHS]
        names = [f"company {self._chance.random()}" for _ in LENGTHS]
        for history, name in zip(histories, names, strict=True):
            caller.say(history, 1, name)
        made = CONVERSATIONS * TOGETHER

        def turns() -> list[list[int]]:
            return [[*history, *self._tokens(SAID)] for history in histories]

        began = self._clock()
        for prompt, name in zip(turns(), names, strict=True):
            caller.say(prompt, TOGETHER, name)
        alone = made / (self._clock() - began)
        began = self._clock()
        waiting = [caller.begin(prompt, TOGETHER, name)[1] for prompt, name in zip(turns(), names, strict=True)]
        for whole in waiting:
            whole()
        return {"one after another": alone, "eight together": made / (self._clock() - began)}

    def _joining(self, caller: Caller) -> dict[str, float]:
        """One that joins, while nobody speaks and while seven do."""
        figures = {"cold joiner, idle": caller.say(self._tokens(COLD), 1).times[0]}
        history = self._tokens(COLD)
        turn = f"turn {self._chance.random()}"
        caller.say(history, 1, turn)
        figures["next turn, idle"] = caller.say([*history, *self._tokens(SAID)], 1, turn).times[0]
        busy = [caller.begin(self._tokens(length), 2000, None) for length in LENGTHS[:7]]
        while self._batch.prompting or self._batch.decoding < 7:
            time.sleep(0.05)
        time.sleep(1)
        try:
            figures["cold joiner, seven busy"] = caller.say(self._tokens(COLD), 1).times[0]
            figures["next turn, seven busy"] = caller.say([*history, *self._tokens(SAID)], 1, turn).times[0]
        finally:
            for request, _ in busy:
                request.unwanted = True
        while self._batch.prompting + self._batch.decoding:
            time.sleep(0.05)
        return figures


def caller_from_scratch(model: Any, prompt: list[int], tokens: int) -> list[int]:
    """The greedy tokens of transformers' own loop with its own attention."""
    ours = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        ids = torch.tensor([prompt], device=model.device)
        made = model.generate(ids, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    finally:
        model.set_attn_implementation(ours)
    found: list[int] = made[0, len(prompt) :].tolist()
    return found


def measure(name: str | None, threads: int, device: str, dtype: str, repeat: int, own: bool) -> dict[str, Any]:
    """All figures of a model, and of what it ran on; in the process's own time where `own`."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    place = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    numbers = dtype if dtype != "auto" else "float32" if place == "cpu" else "bfloat16"
    loader: Any = AutoModelForCausalLM
    if name:
        model = loader.from_pretrained(find(name), dtype=getattr(torch, numbers), local_files_only=True)
    else:
        config = LlamaConfig(
            vocab_size=32_000,
            hidden_size=768,
            intermediate_size=2048,
            num_hidden_layers=12,
            num_attention_heads=12,
            num_key_value_heads=4,
            max_position_embeddings=4096,
        )
        model = LlamaForCausalLM(config).to(dtype=getattr(torch, numbers))
    model = model.to(place).eval()
    ground = machine() | {
        "vector extensions": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "device": torch.cuda.get_device_name() if place != "cpu" else "cpu",
        "numbers": numbers,
        "time": "the process's own" if own else "the clock's",
        "model": name or "Llama of random weights",
        "parameters": sum(one.numel() for one in model.parameters()),
    }
    print(f"measuring {ground['model']}, {ground['parameters'] / 1e6:.0f} M parameters ...", flush=True)
    figures = Bench(model, repeat, time.process_time if own else time.perf_counter).measured()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ground": ground, "figures": figures, "memory": memory}


GOALS = (
    ("tenth turn", "first turn", "at most", 0.35),
    ("new conversation, personality known", "new conversation, cold", "at most", 0.35),
    ("eight together", "one after another", "at least", 2.5),
    ("cold joiner, seven busy", "cold joiner, idle", "at most", 1.6),
    ("next turn, seven busy", "next turn, idle", "", 0.0),
)


def table(measured: dict[str, Any]) -> str:
    """The figures as Markdown."""
    ground, figures = measured["ground"], measured["figures"]
    lines = [
        f"{ground['model']}, {ground['parameters'] / 1e6:.0f} M parameters, {ground['numbers']}, {ground['device']}; "
        f"{ground['cpu']} ({ground['vector extensions']}), {ground['threads']} threads of {ground['cores']} cores; "
        f"time: {ground['time']}; {measured['memory']:.0f} MB at most.",
        "",
        "| chat | | against | ratio | goal |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, other, how, goal in GOALS:
        unit = "tokens/s" if "together" in name else "s"
        lines.append(
            f"| {name} | {figures[name]:.3g} {unit} | {other}: {figures[other]:.3g} {unit} | "
            f"{figures[name] / figures[other]:.2f} | {f'{how} {goal}' if how else '-'} |"
        )
    same = figures["same tokens as from scratch"] == 1
    lines.append(
        f"| greedy tokens of the tenth turn as from scratch | {'the same' if same else 'different'} | | | the same |"
    )
    return "\n".join(lines)
