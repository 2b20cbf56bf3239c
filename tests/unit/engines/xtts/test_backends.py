"""Every backend makes what the exact one makes, as near as its precision goes, and what can't run here says why."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engines.tts.xtts import backends, native
from engines.tts.xtts.backends import Graphs, Native, Quantised, choose, vocoder
from engines.tts.xtts.batch import Batch
from engines.tts.xtts.checkpoint import Checkpoint
from engines.tts.xtts.coqui import transformer
from engines.tts.xtts.errors import BrokenStream, NoSuchBackend
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.network import Backend, Exact
from engines.tts.xtts.sampling import Sampling
from engines.tts.xtts.vocoder import SpeechWindow
from engines.types import Audio, EngineUnavailable
from tests.unit.engines.xtts.coqui_loop import streamed, voice

TEXTS = (
    "Hello.",
    "The rain in Spain stays mainly in the plain.",
    "One or two.",
    "And then there was nothing more to say.",
)
LIKELIEST = Sampling(top_k=1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So little work is done slower by two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def lacking() -> native.Library:
    raise EngineUnavailable("XTTS's own kernels need a C++ compiler.")


def exact_ones() -> list[Backend]:
    """Those that compute in float32 here; `auto` is the own kernels where they can be had."""
    return [choose("auto", "fp32"), Graphs("cpu", torch.float32)]


def codes_of(base: Checkpoint, backend: Backend) -> dict[str, list[int]]:
    """Codes of ragged streams that join and leave at different times, in three slots."""
    batch = Batch(base, backend, 3)
    names: dict[int, str] = {}
    made: dict[str, list[int]] = {text: [] for text in TEXTS}
    waiting = list(TEXTS)
    while waiting or names:
        if waiting and batch.free:
            text = waiting.pop(0)
            slot = batch.join(
                base.tokenizer.encode(text, "en"), voice(base, "Small Ada"), LIKELIEST, 70 - 10 * len(names)
            )
            names[slot] = text
        for one in batch.step():
            made[names[one.slot]].append(one.code)
            if one.stop:
                del names[one.slot]
    return made


@pytest.mark.parametrize("backend", exact_ones(), ids=lambda backend: type(backend).__name__)
def test_float32_backends_make_coquis_codes_in_a_ragged_batch(base: Checkpoint, backend: Backend) -> None:
    made = codes_of(base, backend)
    for text, codes in made.items():
        expected, _ = streamed(base, base.tokenizer.encode(text, "en"), voice(base, "Small Ada"), LIKELIEST, len(codes))
        assert len(codes) >= 50
        assert codes == expected


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_voice_whose_numbers_overflow_is_refused_and_its_place_is_clean(base: Checkpoint, precision: str) -> None:
    backend, ids, ada = choose("auto", precision), base.tokenizer.encode(TEXTS[0], "en"), voice(base, "Small Ada")
    batch, fresh = Batch(base, backend, 1), Batch(base, backend, 1)
    with pytest.raises(BrokenStream):
        batch.join(ids, Latents(torch.full((32, 64), 3e38), ada.speaker, base.fingerprint), LIKELIEST)
    batch.join(ids, ada, LIKELIEST)
    fresh.join(ids, ada, LIKELIEST)
    for _ in range(20):
        [one], [other] = batch.step(), fresh.step()
        assert one.code == other.code
        assert torch.equal(one.latent, other.latent)


def forced(base: Checkpoint, backend: Backend) -> torch.Tensor:
    """States (steps, rows, d) for the same codes in three rows of different lengths."""
    network = backend.network(transformer(base.gpt), 4)
    chance = torch.Generator().manual_seed(5)
    with torch.inference_mode():
        prefix = network.prefix(0, voice(base, "Small Ben").gpt)
        for row, text in enumerate((5, 21, 34)):
            network.fill(row, prefix, torch.randint(3, 200, (text,), generator=chance), 1024)
        states = []
        for _ in range(40):
            states.append(network.step(3, int(network.length[:3].max()) + 1).latent.float().clone())
            network.codes[:3] = torch.randint(0, 1024, (3,), generator=chance)
            network.made[:3] += 1
            network.length[:3] += 1
        network.move(2, 0, int(network.length[2]))
        states.append(network.step(3, int(network.length[:3].max()) + 1).latent.float().clone())
    return torch.stack(states)


@pytest.mark.parametrize("backend", exact_ones(), ids=lambda backend: type(backend).__name__)
def test_float32_backends_have_the_exact_states(base: Checkpoint, backend: Backend) -> None:
    assert (forced(base, backend) - forced(base, Exact())).abs().max() < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_threads_change_nothing(base: Checkpoint, precision: str) -> None:
    alone = forced(base, choose("auto", precision))
    torch.set_num_threads(3)
    assert (forced(base, choose("auto", precision)) - alone).abs().max() < 1e-5


@pytest.mark.parametrize("backend", [Quantised(), choose("auto", "int8")], ids=["torch", "auto"])
def test_int8_states_stay_close_to_those_of_float32(base: Checkpoint, backend: Backend) -> None:
    made, expected = forced(base, backend), forced(base, Exact())
    error = (made - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < error < 0.05


def test_half_precision_states_stay_close_to_those_of_float32(base: Checkpoint) -> None:
    made, expected = forced(base, Graphs("cpu", torch.bfloat16)), forced(base, Exact())
    assert 0 < (made - expected).square().mean().sqrt() / expected.square().mean().sqrt() < 0.05


def test_steps_for_graphs_are_rounded_up_so_that_few_graphs_do() -> None:
    graphs = Graphs("cpu", torch.float32)
    assert [graphs.bucket(rows, 1)[0] for rows in (1, 2, 3, 4, 5, 8, 9)] == [1, 2, 4, 4, 8, 8, 16]
    assert [graphs.bucket(1, reach)[1] for reach in (1, 128, 129, 700)] == [128, 128, 256, 768]


def test_a_graph_is_captured_once_for_each_bucket(base: Checkpoint) -> None:
    asked: list[tuple[int, int]] = []

    class Counted(Graphs):
        def stepping(self, step):  # type: ignore[no-untyped-def]
            def stepped(rows, reach):  # type: ignore[no-untyped-def]
                asked.append((rows, reach))
                return step(rows, reach)

            return stepped

    codes_of(base, Counted("cpu", torch.float32))
    assert {rows for rows, _ in asked} == {1, 2, 3}  # 4, but no more than there are
    assert {reach for _, reach in asked} <= {128, 256}


@pytest.mark.parametrize(
    ("backend", "precision", "kind"),
    [
        ("torch", "auto", Exact),
        ("torch", "fp32", Exact),
        ("torch", "int8", Quantised),
        ("auto", "int8", (Native, Quantised)),
        ("auto", "auto", Exact),
    ],
)
def test_settings_choose_a_backend(backend: str, precision: str, kind: type | tuple[type, ...]) -> None:
    assert isinstance(choose(backend, precision), kind)


def test_a_gpu_gets_graphs_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose("auto", "auto", "cuda:0")
    assert isinstance(chosen, Graphs)
    assert chosen.dtype == torch.float16
    assert choose("graphs", "bf16", "cuda:0").dtype == torch.bfloat16
    assert choose("torch", "fp32", "cuda:0").dtype == torch.float32


@pytest.mark.parametrize(
    ("backend", "precision", "device", "says"),
    [
        ("vllm", "auto", "cpu", "XTTS_BACKEND is one of"),
        ("auto", "fp8", "cpu", "XTTS_PRECISION of"),
        ("deepspeed", "auto", "cpu", "XTTS_BACKEND=graphs"),
        ("deepspeed", "fp16", "cuda:0", "transformers 5"),
        ("auto", "fp16", "cpu", "need a GPU"),
        ("graphs", "auto", "cpu", "need a GPU"),
        ("native", "auto", "cuda:0", "XTTS_DEVICE=cpu"),
        ("auto", "int8", "cuda:0", "XTTS_DEVICE=cpu"),
        ("torch", "fp16", "cuda:0", "XTTS_BACKEND=graphs"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(backend: str, precision: str, device: str, says: str) -> None:
    with pytest.raises(NoSuchBackend, match=says):
        choose(backend, precision, device)


def test_without_own_kernels_torch_computes_unless_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "library", lacking)
    assert type(choose("auto", "fp32")) is Exact
    assert type(choose("auto", "int8")) is Quantised
    with pytest.raises(EngineUnavailable, match="compiler"):
        choose("native", "int8")


def test_a_missing_compiler_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(EngineUnavailable, match="apt install g"):
        native.compiler()


def test_a_compiler_that_fails_leaves_nothing_behind_and_says_what_it_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'error: no such flag' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(EngineUnavailable, match="no such flag"):
        native._built(str(broken))
    assert not list((tmp_path / "cache" / "voice-node").iterdir())


def test_a_processor_without_the_instructions_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "processor", lambda: frozenset({"avx2"}))
    with pytest.raises(EngineUnavailable, match="AVX-512 VNNI"):
        native.library.__wrapped__()


def sound(base: Checkpoint, backend: Backend, given: torch.Tensor, cuts: list[int]) -> Audio:
    made = vocoder(base.decoder, backend)
    window = SpeechWindow(voice(base, "Small Ada").speaker)
    other = SpeechWindow(voice(base, "Small Ben").speaker)
    pieces = []
    for part in torch.tensor_split(given, cuts):
        window.push(part)
        other.push(part.flip(0))
        pieces.append(made.decode([(window, False), (other, False)])[0])
    pieces.append(made.decode([(window, True)])[0])
    assert not len(made.decode([(window, True)])[0])
    return torch.cat([torch.from_numpy(piece) for piece in pieces]).numpy()


def whole(base: Checkpoint, given: torch.Tensor) -> Audio:
    with torch.inference_mode():
        made: Audio = base.decoder(given[None], voice(base, "Small Ada").speaker[None])[0, 0].numpy()
    return made


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_vocoder_of_a_backend_makes_coquis_sound_in_chunks_of_any_size(base: Checkpoint, precision: str) -> None:
    given = torch.randn(18, 64, generator=torch.Generator().manual_seed(3))
    expected = whole(base, given)
    for seed in range(3):
        made = sound(base, choose("auto", precision), given, sorted(random.Random(seed).choices(range(18), k=3 * seed)))
        assert made.shape == expected.shape
        if precision == "fp32":
            assert abs(made - expected).max() < 1e-5
        else:
            assert ((made - expected) ** 2).mean() < 1e-3 * (expected**2).mean()
