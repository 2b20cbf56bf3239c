"""The batch makes coqui's codes and latents, whoever shares it, and whatever goes wrong beside it."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from torch import Tensor

from engines.tts.xtts import checkpoint
from engines.tts.xtts.batch import Batch, Made
from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.errors import BrokenStream, ForeignLatents, NoFreeSlot, OutOfMemory, UnspeakableText
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.network import Exact, Linear
from engines.tts.xtts.sampling import Sampling
from engines.types import EngineError
from tests.models import xtts as small
from tests.unit.engines.xtts.coqui_loop import second_pass, streamed, voice

LIKELIEST = Sampling(top_k=1)
TEXTS = (
    "Hello there, the rain in Spain.",
    "No.",
    "A much longer sentence goes on and on, and then it adds 3 or 4 more words, so that the prompts are ragged.",
    "What did you say?",
    "One, two, three, four.",
    "The other day I went out without a hat on.",
    "Yes, and then the end.",
    "Nothing else matters here.",
)


class Failing(Exact):
    """Computes as it should until it is told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.fails_after: int | None = None
        self.poisoned: list[int] | None = None

    def linear(self, weight: Tensor, bias: Tensor) -> Linear:
        real = super().linear(weight, bias)

        def layer(given: Tensor) -> Tensor:
            if self.fails_after is not None:
                self.fails_after -= 1
                if self.fails_after < 0:
                    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
            result = real(given)
            if self.poisoned is not None:
                result[self.poisoned] = torch.nan
            return result

        return layer


class Streams:
    """A batch, and what it made for each of its streams."""

    def __init__(self, checkpoint: Checkpoint, slots: int, backend: Exact | None = None) -> None:
        self.checkpoint = checkpoint
        self.batch = Batch(checkpoint, backend or Exact(), slots)
        self.made: dict[int, list[Made]] = {}

    def join(
        self, text: str, name: str = "Small Ada", sampling: Sampling = LIKELIEST, max_codes: int | None = None
    ) -> int:
        ids = self.checkpoint.tokenizer.encode(text, "en")
        slot = self.batch.join(ids, voice(self.checkpoint, name), sampling, max_codes)
        self.made[slot] = []
        return slot

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            for one in self.batch.step():
                self.made[one.slot].append(one)

    def finish(self) -> None:
        while made := self.batch.step():
            for one in made:
                self.made[one.slot].append(one)

    def codes(self, slot: int) -> list[int]:
        return [one.code for one in self.made[slot]]

    def latents(self, slot: int) -> Tensor:
        return torch.stack([one.latent for one in self.made[slot]])


def ids(checkpoint: Checkpoint, text: str) -> list[int]:
    return checkpoint.tokenizer.encode(text, "en")


@cache
def coquis(checkpoint: Checkpoint, text: str, name: str = "Small Ada") -> tuple[list[int], Tensor]:
    """The codes and latents that coqui's own loop makes of a text."""
    return streamed(checkpoint, ids(checkpoint, text), voice(checkpoint, name), LIKELIEST)


def test_a_stream_alone_makes_the_codes_and_latents_of_coquis_both_ways(base: Checkpoint) -> None:
    streams = Streams(base, slots=1)
    slot = streams.join(TEXTS[0])
    streams.finish()
    expected, latents = coquis(base, TEXTS[0])
    assert streams.codes(slot) == expected
    assert len(expected) == 91
    assert [one.stop for one in streams.made[slot]] == [False] * 90 + [True]
    assert (streams.latents(slot) - latents).abs().max() < 1e-4
    whole = second_pass(base, ids(base, TEXTS[0]), voice(base, "Small Ada"), expected)
    assert (streams.latents(slot) - whole).abs().max() < 1e-4


@pytest.mark.parametrize("slots", [4, 8])
def test_ragged_streams_that_join_and_leave_at_any_time_make_coquis_codes_and_latents(
    base: Checkpoint, slots: int
) -> None:
    streams, joined = Streams(base, slots), {}

    def join(text: str, name: str) -> int:
        slot = streams.join(text, name)
        joined[slot] = (text, name)
        return slot

    for number, text in enumerate(TEXTS[: slots - 1]):
        join(text, small.SPEAKERS[number % 2])
        streams.step(5)
    early = join(TEXTS[-1], "Small Ben")
    assert streams.batch.free == 0
    streams.step(12)
    first = min(streams.made)
    streams.batch.leave(first)  # the first row goes, and the last one moves into it
    streams.batch.leave(early)
    assert streams.batch.free == 2
    join("Somebody new.", "Small Ada")
    streams.step(7)
    join("And another one, who came late.", "Small Ben")
    streams.finish()
    assert streams.batch.free == slots
    for slot, (text, name) in joined.items():
        expected, latents = coquis(base, text, name)
        codes = streams.codes(slot)
        assert codes == expected[: len(codes)]
        assert len(codes) == (91 if slot not in (first, early) else len(codes))
        assert (streams.latents(slot) - latents[: len(codes)]).abs().max() < 1e-4


def test_sampled_codes_depend_on_the_seed_and_not_on_who_shares_the_batch(base: Checkpoint) -> None:
    def alone(seed: int) -> list[int]:
        streams = Streams(base, slots=1)
        slot = streams.join(TEXTS[0], sampling=Sampling(seed=seed))
        streams.finish()
        return streams.codes(slot)

    crowd = Streams(base, slots=6)
    others = [crowd.join(text, "Small Ben", Sampling(temperature=1.5, top_k=0, top_p=1, seed=8)) for text in TEXTS[1:3]]
    crowd.step(10)
    slots = {seed: crowd.join(TEXTS[0], sampling=Sampling(seed=seed)) for seed in (1, 2, 3)}
    crowd.step(10)
    crowd.batch.leave(others[0])
    crowd.finish()
    assert [crowd.codes(slot) for slot in slots.values()] == [alone(seed) for seed in slots]
    assert len({tuple(crowd.codes(slot)) for slot in slots.values()}) == 3


def test_without_a_seed_two_streams_differ(base: Checkpoint) -> None:
    streams = Streams(base, slots=2)
    first, second = (streams.join(TEXTS[0], sampling=Sampling()) for _ in range(2))
    streams.finish()
    assert streams.codes(first) != streams.codes(second)


def test_the_stop_code_is_told_with_its_rank_and_probability(base: Checkpoint) -> None:
    streams = Streams(base, slots=1)
    made = streams.made[streams.join(TEXTS[0])]
    streams.finish()
    assert (made[-1].code, made[-1].stop_rank) == (1025, 0)
    assert made[-1].stop_probability > 0.99
    assert min(one.stop_rank for one in made[:-1]) > 100
    assert max(one.stop_probability for one in made[:-1]) < 0.01


def test_a_stream_ends_at_the_last_code_it_is_allowed(base: Checkpoint) -> None:
    streams = Streams(base, slots=2)
    short, one = streams.join(TEXTS[0], max_codes=20), streams.join(TEXTS[0], max_codes=1)
    streams.finish()
    assert [len(streams.made[slot]) for slot in (short, one)] == [20, 1]
    assert streams.made[short][-1].stop
    assert streams.made[short][-1].code != 1025


def test_a_stream_without_an_end_stops_where_coquis_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = small.base(tmp_path_factory.mktemp("endless"), ends_after=None, most_codes=100)
    endless = checkpoint.load(folder, "cpu")
    streams = Streams(endless, slots=1)
    slot = streams.join(TEXTS[2])
    streams.finish()
    expected, latents = coquis(endless, TEXTS[2])
    assert len(expected) == 100
    assert streams.codes(slot) == expected
    assert (streams.latents(slot) - latents).abs().max() < 1e-4


class Bucketed(Exact):
    """Computes more than is asked for, as captured graphs do."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[tuple[int, int]] = set()

    def bucket(self, rows: int, reach: int) -> tuple[int, int]:
        self.asked.add(bucket := (-(-rows // 4) * 4, -(-reach // 64) * 64))
        return bucket


def test_rows_and_positions_that_only_fill_a_bucket_up_change_nothing(base: Checkpoint) -> None:
    backend = Bucketed()
    streams = Streams(base, 6, backend)
    slots = {}
    for text in TEXTS[:5]:
        slots[streams.join(text)] = text
        streams.step(9)
    streams.batch.leave(gone := min(slots))
    slots[streams.join(TEXTS[5])] = TEXTS[5]
    streams.finish()
    assert len(backend.asked) > 3
    for slot, text in slots.items():
        codes = streams.codes(slot)
        assert codes == coquis(base, text)[0][: len(codes)]
        assert len(codes) == (91 if slot != gone else 45)


class Narrow(Exact):
    """Computes with half the digits."""

    dtype = torch.bfloat16

    def linear(self, weight: Tensor, bias: Tensor) -> Linear:
        return super().linear(weight.to(self.dtype), bias.to(self.dtype))


def test_narrower_numbers_give_nearly_the_same_latents_in_float32(base: Checkpoint) -> None:
    streams = Streams(base, 2, Narrow())
    slots = [streams.join(text, max_codes=1) for text in TEXTS[:2]]
    streams.step()
    for slot, text in zip(slots, TEXTS, strict=False):
        [made] = streams.made[slot]
        latent = coquis(base, text)[1][0]
        assert made.latent.dtype == torch.float32
        assert 1e-6 < (made.latent - latent).norm() / latent.norm() < 0.05


def test_a_prepared_voice_is_computed_once(base: Checkpoint) -> None:
    backend = Failing()
    streams = Streams(base, 1, backend)
    streams.batch.prepare(voice(base, "Small Ada"))
    backend.fails_after = 5  # two layers of a text, the last one's keys and values only; a prefix takes as many again
    slot = streams.join(TEXTS[0])
    backend.fails_after = None
    with pytest.raises(NoFreeSlot):
        streams.batch.prepare(voice(base, "Small Ben"))
    streams.finish()
    assert streams.codes(slot) == coquis(base, TEXTS[0])[0]


def test_a_batch_that_is_dropped_is_gone_at_once(base: Checkpoint) -> None:
    batch = Batch(base, Exact(), 1)
    batch.join([5], voice(base, "Small Ada"), LIKELIEST)
    batch.step()
    network = weakref.ref(batch._network)
    gc.disable()
    try:
        del batch
        assert network() is None
    finally:
        gc.enable()


def test_leaving_frees_the_slot_at_once_and_leaving_again_harms_nobody(base: Checkpoint) -> None:
    streams = Streams(base, slots=1)
    first = streams.join(TEXTS[0])
    streams.batch.leave(first)
    assert streams.batch.free == 1
    second = streams.join(TEXTS[1])
    streams.batch.leave(first)
    assert streams.batch.free == 0
    streams.step()
    assert len(streams.made[second]) == 1


def unusable(checkpoint: Checkpoint) -> list[tuple[type[EngineError], Sequence[int], Latents]]:
    """What no batch takes, by the error it names."""
    ada, text = voice(checkpoint, "Small Ada"), ids(checkpoint, "Hello.")
    return [
        (UnspeakableText, [], ada),
        (UnspeakableText, [5] * 402, ada),
        (UnspeakableText, [5, 100_000], ada),
        (UnspeakableText, [-1], ada),
        (ForeignLatents, text, Latents(ada.gpt, ada.speaker, "another")),
        (ForeignLatents, text, Latents(ada.gpt[:, :5], ada.speaker, ada.checkpoint)),
        (ForeignLatents, text, Latents(ada.gpt, ada.speaker[:9], ada.checkpoint)),
        (ForeignLatents, text, Latents(ada.gpt * torch.nan, ada.speaker, ada.checkpoint)),
    ]


def test_what_cannot_be_spoken_is_refused_by_name_and_the_others_go_on(base: Checkpoint) -> None:
    streams = Streams(base, slots=2)
    slot = streams.join(TEXTS[0])
    for error, text, latents in unusable(base):
        streams.step(3)
        with pytest.raises(error):
            streams.batch.join(text, latents, LIKELIEST)
        assert streams.batch.free == 1
    late = streams.join(TEXTS[1])
    with pytest.raises(NoFreeSlot):
        streams.join(TEXTS[2])
    streams.finish()
    for joined, text in ((slot, TEXTS[0]), (late, TEXTS[1])):
        assert streams.codes(joined) == coquis(base, text)[0]


def test_a_join_that_runs_out_of_memory_and_a_step_that_does_change_nothing(base: Checkpoint) -> None:
    backend = Failing()
    streams = Streams(base, 2, backend)
    slot = streams.join(TEXTS[0])
    for layers in range(9):
        streams.step(3)
        backend.fails_after = layers
        with pytest.raises(OutOfMemory):
            streams.step()
        if layers < 5:
            backend.fails_after = layers
            with pytest.raises(OutOfMemory):
                streams.join(TEXTS[1], "Small Ben")
        backend.fails_after = None
    assert streams.batch.free == 1
    late = streams.join(TEXTS[1], "Small Ben")
    streams.finish()
    for joined, text, name in ((slot, TEXTS[0], "Small Ada"), (late, TEXTS[1], "Small Ben")):
        assert streams.codes(joined) == coquis(base, text, name)[0]


def test_a_stream_whose_numbers_overflow_ends_alone_and_its_place_is_clean(base: Checkpoint) -> None:
    backend = Failing()
    streams = Streams(base, 2, backend)
    broken, other = streams.join(TEXTS[2]), streams.join(TEXTS[0])
    streams.step(30)
    backend.poisoned = [0]
    streams.step()
    backend.poisoned = None
    assert isinstance(streams.made[broken][-1].error, BrokenStream)
    assert streams.made[broken][-1].stop
    assert streams.batch.free == 1
    backend.poisoned = [0]
    with pytest.raises(BrokenStream):
        streams.join(TEXTS[1])
    with pytest.raises(BrokenStream):
        streams.join(TEXTS[1], "Small Ben")
    backend.poisoned = None
    late = streams.join(TEXTS[1])
    streams.finish()
    for slot, text in ((other, TEXTS[0]), (late, TEXTS[1])):
        assert streams.codes(slot) == coquis(base, text)[0]
        assert all(one.error is None for one in streams.made[slot])


def test_streams_that_break_together_leave_clean_places(base: Checkpoint) -> None:
    backend = Failing()
    streams = Streams(base, 3, backend)
    first, other, last = (streams.join(text) for text in (TEXTS[2], TEXTS[0], TEXTS[6]))
    streams.step(30)
    backend.poisoned = [0, 2]
    streams.step()
    backend.poisoned = None
    assert streams.batch.free == 2
    assert all(isinstance(streams.made[slot][-1].error, BrokenStream) for slot in (first, last))
    late = {streams.join(text): text for text in (TEXTS[1], TEXTS[3])}
    streams.finish()
    for slot, text in {other: TEXTS[0], **late}.items():
        assert streams.codes(slot) == coquis(base, text)[0]


def tensors() -> int:
    """Bytes of all tensors that anything holds."""
    gc.collect()
    storages = [found.untyped_storage() for found in gc.get_objects() if type(found) is Tensor]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_200_random_joins_cancels_and_errors_leak_no_slot_and_no_memory(base: Checkpoint) -> None:
    backend, chance, wrong = Failing(), random.Random(5), unusable(base)
    batch, slots = Batch(base, backend, 5), 5
    noise = torch.randn(20, 32, 64, generator=torch.Generator().manual_seed(5))
    voices = [Latents(one, torch.zeros(512, 1), base.fingerprint) for one in noise]
    held: set[int] = set()
    joins = 0

    def act() -> None:
        nonlocal joins
        action = chance.choice(["join", "join", "leave", "wrong", "memory", "poison", "again"])
        if action == "join" and batch.free:
            held.add(batch.join(ids(base, chance.choice(TEXTS)), chance.choice(voices), Sampling(), 40))
            joins += 1
        elif action == "leave" and held:
            batch.leave(slot := chance.choice(sorted(held)))
            held.remove(slot)
        elif action == "wrong" and batch.free:
            error, text, latents = chance.choice(wrong)
            with pytest.raises(error):
                batch.join(text, latents, LIKELIEST)
        elif action == "memory" and held:
            backend.fails_after = chance.randrange(9)
            with pytest.raises(OutOfMemory):
                batch.step()
            backend.fails_after = None
        elif action == "poison" and batch.free:
            backend.poisoned = [0]
            ended(batch.step())
            with pytest.raises(BrokenStream):
                batch.join([5, 6], chance.choice(voices), LIKELIEST)
            backend.poisoned = None
        elif action == "again":
            batch.leave(chance.randrange(-3, 3))
        for _ in range(chance.randrange(5)):
            ended(batch.step())

    def ended(made: list[Made]) -> None:
        held.difference_update(one.slot for one in made if one.stop)

    def rest() -> int:
        for slot in list(held):
            batch.leave(slot)
        held.clear()
        assert batch.free == slots
        return tensors()

    for one in voices:  # as many as there are, so that the cache of prefixes is as full as it gets
        batch.leave(batch.join(ids(base, "Hm."), one, LIKELIEST))
    before = rest()
    for _ in range(200):
        act()
        assert batch.free == slots - len(held)
    assert rest() == before
    assert joins > 40
