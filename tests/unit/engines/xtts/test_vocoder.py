"""The streaming vocoder against coqui's decode of the whole sequence, with a small one of the same structure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional
from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder

from engines.tts.xtts.errors import OutOfMemory
from engines.tts.xtts.stretch import Stretch
from engines.tts.xtts.vocoder import SpeechWindow, Vocoder
from engines.types import Audio

WIDTH = 24
CODES = 160
CODE = 1024 * 24000 / 22050
"""Samples of one code."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """So little work is done slower by two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def decoder() -> HifiDecoder:
    """Few channels, but every layer of the real one, with its weight norms; as loud as speech."""
    torch.manual_seed(7)
    made = HifiDecoder(decoder_input_dim=WIDTH, upsample_initial_channel_decoder=32, d_vector_dim=16).eval()
    with torch.no_grad():
        for name, weight in made.waveform_decoder.named_parameters():
            if weight.ndim == 1:
                weight.normal_(0, 0.1)
            elif "original0" in name:
                weight.mul_(1.6)
    return made


@pytest.fixture(scope="module")
def vocoder(decoder: HifiDecoder) -> Vocoder:
    return Vocoder(decoder)


def latents(codes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(codes, WIDTH, generator=torch.Generator().manual_seed(seed))


def speaker(seed: int = 0) -> torch.Tensor:
    return torch.randn(16, 1, generator=torch.Generator().manual_seed(100 + seed))


@torch.inference_mode()
def whole(decoder: HifiDecoder, latents: torch.Tensor, speaker: torch.Tensor) -> Audio:
    return decoder(latents[None], speaker[None])[0, 0].numpy()


def streamed(vocoder: Vocoder, latents: torch.Tensor, speaker: torch.Tensor, cuts: list[int]) -> Audio:
    window = SpeechWindow(speaker)
    made = []
    for begin, end in pairwise([0, *cuts, len(latents)]):
        window.push(latents[begin:end])
        made += vocoder.decode([(window, False)])
    return np.concatenate(made + vocoder.decode([(window, True)]))


def same(made: Audio, expected: Audio) -> None:
    assert made.dtype == np.float32
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() < 1e-5


def test_the_small_vocoder_is_loud_enough_to_tell_a_difference(decoder: HifiDecoder) -> None:
    assert 0.02 < whole(decoder, latents(CODES), speaker()).std() < 0.5


@pytest.mark.parametrize("size", range(1, 41))
def test_chunks_of_any_size_give_the_sound_of_the_whole(decoder: HifiDecoder, vocoder: Vocoder, size: int) -> None:
    made = streamed(vocoder, latents(CODES), speaker(), list(range(size, CODES, size)))
    same(made, whole(decoder, latents(CODES), speaker()))


@pytest.mark.parametrize("seed", range(10))
def test_chunks_of_mixed_sizes_give_the_sound_of_the_whole(decoder: HifiDecoder, vocoder: Vocoder, seed: int) -> None:
    codes = random.Random(seed).randint(1, CODES)
    cuts = sorted(random.Random(seed).choices(range(codes), k=random.Random(seed).randint(0, 20)))
    same(
        streamed(vocoder, latents(codes, seed), speaker(seed), cuts),
        whole(decoder, latents(codes, seed), speaker(seed)),
    )


def test_the_longest_speech_stays_exact_to_its_end(decoder: HifiDecoder, vocoder: Vocoder) -> None:
    made = streamed(vocoder, latents(602), speaker(), list(range(30, 602, 30)))
    same(made, whole(decoder, latents(602), speaker()))


@pytest.mark.parametrize("codes", range(1, 13))
def test_very_short_speech_comes_out_whole(decoder: HifiDecoder, vocoder: Vocoder, codes: int) -> None:
    expected = whole(decoder, latents(codes), speaker())
    same(streamed(vocoder, latents(codes), speaker(), []), expected)
    same(streamed(vocoder, latents(codes), speaker(), list(range(1, codes))), expected)


def test_streams_of_many_ages_and_voices_share_passes_and_keep_their_own_sound(
    decoder: HifiDecoder, vocoder: Vocoder
) -> None:
    chance = random.Random(3)
    lengths = [chance.randint(1, 90) for _ in range(12)]
    begins = [chance.randint(0, 5) * 10 for _ in lengths]
    given = [latents(length, number) for number, length in enumerate(lengths)]
    windows = [SpeechWindow(speaker(number)) for number in range(len(lengths))]
    made: list[list[Audio]] = [[] for _ in lengths]
    for now in range(0, 160, 10):
        jobs, places = [], []
        for place, window in enumerate(windows):
            at = now - begins[place]
            if 0 <= at < lengths[place]:
                window.push(given[place][at : at + 10])
                jobs.append((window, at + 10 >= lengths[place]))
                places.append(place)
        order = list(range(len(jobs)))
        chance.shuffle(order)
        for number, audio in zip(order, vocoder.decode([jobs[number] for number in order]), strict=True):
            made[places[number]].append(audio)
    for place, pieces in enumerate(made):
        same(np.concatenate(pieces), whole(decoder, given[place], speaker(place)))


def test_streams_in_step_go_through_the_layers_together(vocoder: Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    convolve = functional.conv2d

    def watched(x: torch.Tensor, weight: torch.Tensor, *rest: object, **named: object) -> torch.Tensor:
        if weight.shape[1] == WIDTH:
            batches.append(len(x))
        return convolve(x, weight, *rest, **named)

    monkeypatch.setattr(functional, "conv2d", watched)
    windows = [SpeechWindow(speaker(number)) for number in range(5)]
    for _ in range(4):
        for window in windows:
            window.push(latents(9))
        vocoder.decode([(window, False) for window in windows])
    windows[0].push(latents(1))
    vocoder.decode([(window, True) for window in windows[1:]])
    assert batches == [5, 5, 5, 5, 4]


def test_sound_begins_with_the_fourth_code_and_lags_less_than_four_behind(vocoder: Vocoder) -> None:
    window = SpeechWindow(speaker())
    lengths = []
    for code in latents(40):
        window.push(code[None])
        lengths.append(len(vocoder.decode([(window, False)])[0]))
    assert lengths[:3] == [0, 0, 0]
    assert all(lengths[3:])
    assert 40 * CODE - sum(lengths) < 4 * CODE


def test_where_memory_is_short_fewer_streams_share_a_pass_and_none_loses_sound(
    decoder: HifiDecoder, vocoder: Vocoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolve = functional.conv2d
    room = 2

    def short(x: torch.Tensor, weight: torch.Tensor, *rest: object, **named: object) -> torch.Tensor:
        if len(x) > room and x.shape[1] < WIDTH:
            raise torch.OutOfMemoryError("no memory for so many")
        return convolve(x, weight, *rest, **named)

    monkeypatch.setattr(functional, "conv2d", short)
    windows = [SpeechWindow(speaker(number)) for number in range(5)]
    made: list[list[Audio]] = [[] for _ in windows]
    for begin in range(0, 40, 10):
        for number, window in enumerate(windows):
            window.push(latents(40, number)[begin : begin + 10])
        room = 0
        with pytest.raises(OutOfMemory):
            vocoder.decode([(window, begin == 30) for window in windows])
        room = 2
        for sounds, audio in zip(made, vocoder.decode([(window, begin == 30) for window in windows]), strict=True):
            sounds.append(audio)
    monkeypatch.undo()
    for number, sounds in enumerate(made):
        same(np.concatenate(sounds), whole(decoder, latents(40, number), speaker(number)))


def test_what_a_stream_keeps_does_not_grow(vocoder: Vocoder) -> None:
    window = SpeechWindow(speaker())
    held = set()
    for _ in range(30):
        window.push(latents(10))
        vocoder.decode([(window, False)])
        held.add(sum(kept.untyped_storage().nbytes() for kept in window.kept))
    assert len(held) == 1


def test_an_empty_stream_is_silent_and_an_ended_one_stays_so(vocoder: Vocoder) -> None:
    window = SpeechWindow(speaker())
    assert len(vocoder.decode([(window, False)])[0]) == 0
    assert len(vocoder.decode([(window, True)])[0]) == 0
    spoken = SpeechWindow(speaker())
    spoken.push(latents(20))
    assert len(vocoder.decode([(spoken, True)])[0])
    assert len(vocoder.decode([(spoken, True)])[0]) == 0
    assert vocoder.decode([]) == []


def test_the_decoder_stays_as_it_was(decoder: HifiDecoder) -> None:
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    same(streamed(Vocoder(decoder), latents(20), speaker(), [7]), whole(decoder, latents(20), speaker()))
    assert before.keys() == decoder.state_dict().keys()
    assert all(torch.equal(value, decoder.state_dict()[name]) for name, value in before.items())


def test_bfloat16_differs_by_far_less_than_can_be_heard_beside_the_sound(decoder: HifiDecoder) -> None:
    expected = whole(decoder, latents(40), speaker())
    made = streamed(Vocoder(decoder, torch.bfloat16), latents(40), speaker(), [7, 20])
    assert made.shape == expected.shape
    assert 0 < (made - expected).std() < 0.02 * expected.std()


def test_a_decoder_of_another_structure_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel 6, stride 4"):
        Vocoder(HifiDecoder(upsample_rates_decoder=[4], upsample_kernel_sizes_decoder=[6]))


@pytest.mark.parametrize("scale", [4.0, 24000 / 22050])
def test_stretched_pieces_equal_torchs_interpolation_of_the_whole(scale: float) -> None:
    for length in (1, 2, 8, 11, 12, 13, 100, 600, 2408):
        x = torch.rand(length, 3, generator=torch.Generator().manual_seed(length))
        expected = functional.interpolate(x.T[None], scale_factor=[scale], mode="linear")[0].T
        stretch = Stretch(scale, copies_short=True)
        pieces = [stretch.push(x[begin : begin + 7], False) for begin in range(0, length, 7)]
        made = torch.cat([*pieces, stretch.push(x[:0], True)])
        assert made.shape == expected.shape
        assert (made - expected).abs().max() < 2e-7


@pytest.mark.parametrize("scale", [0.5, 0.8, 0.98, 1.02, 1.25, 2.0])
def test_a_sequence_may_be_stretched_a_little_or_shrunk_without_waiting(scale: float) -> None:
    x = torch.arange(100.0)[:, None]
    stretch = Stretch(scale)
    pieces = [stretch.push(x[place : place + 1], place == 99) for place in range(100)]
    assert sum(map(len, pieces[:10])) >= int(9 * scale)
    made = torch.cat(pieces)[:, 0]
    assert len(made) == int(100 * scale)
    expected = ((torch.arange(len(made)) + 0.5) / scale - 0.5).clamp(0, 99)
    assert (made - expected).abs().max() < 1e-4
