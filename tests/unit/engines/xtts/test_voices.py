"""Voices' latents: as coqui computes them, kept per voice and checkpoint, computed anew where recordings changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engines.tts.xtts import voices as voices_module
from engines.tts.xtts.checkpoint import Checkpoint, load
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.recordings import BadReference
from engines.tts.xtts.voices import Own, Voices
from engines.types import EngineNotConfigured, Voice
from tests.models import xtts as models


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load(models.base(tmp_path_factory.mktemp("checkpoint")), "cpu")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load(models.fine_tuned(tmp_path_factory.mktemp("tuned")), "cpu")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fingerprint of the checkpoint of each computation."""
    done: list[str] = []
    condition = voices_module.condition

    def counted(checkpoint: Checkpoint, recordings: Any) -> Latents:
        done.append(checkpoint.fingerprint)
        return condition(checkpoint, recordings)

    monkeypatch.setattr(voices_module, "condition", counted)
    return done


def recording(file: Path, seconds: float = 2.0, seed: int = 0, rate: int = 22_050, channels: int = 1) -> str:
    """A recording of somebody hissing."""
    hiss = 0.1 * np.random.default_rng(seed).standard_normal((int(seconds * rate), channels))
    soundfile.write(file, hiss, rate)
    return str(file)


def cloned(*samples: str) -> Voice:
    return Voice("me", "Me", samples=samples)


def alike(one: Latents, other: Latents) -> bool:
    return torch.equal(one.gpt, other.gpt) and torch.equal(one.speaker, other.speaker)


def test_latents_are_what_coqui_computes_from_several_recordings(checkpoint: Checkpoint, tmp_path: Path) -> None:
    samples = [
        recording(tmp_path / "one.wav", 5, rate=48_000, channels=2),
        recording(tmp_path / "two.flac", 3, seed=1),
    ]
    ours = Voices(tmp_path / "kept").latents(checkpoint, cloned(*samples))
    config: Any = checkpoint.config
    coqui: Any = checkpoint.model
    style, speaker = coqui.get_conditioning_latents(
        samples,
        max_ref_length=config.max_ref_len,
        gpt_cond_len=config.gpt_cond_len,
        gpt_cond_chunk_len=config.gpt_cond_chunk_len,
    )
    assert ours.gpt.shape == (32, 64) and ours.speaker.shape == (512, 1)
    assert ours.checkpoint == checkpoint.fingerprint
    assert torch.allclose(ours.gpt, style[0], atol=1e-6)
    assert torch.allclose(ours.speaker, speaker[0], atol=1e-6)


def test_compressed_recordings_are_read_too(checkpoint: Checkpoint, tmp_path: Path) -> None:
    whole = Voices(tmp_path / "kept").latents(checkpoint, cloned(recording(tmp_path / "a.wav")))
    for ending in ("ogg", "mp3"):
        latents = Voices(tmp_path / ending).latents(checkpoint, cloned(recording(tmp_path / f"a.{ending}")))
        assert torch.nn.functional.cosine_similarity(whole.speaker, latents.speaker, dim=0) > 0.9


def test_latents_are_found_again_and_computed_once(checkpoint: Checkpoint, tmp_path: Path, computed: list[str]) -> None:
    voice = cloned(recording(tmp_path / "a.wav"))
    first = Voices(tmp_path / "kept").latents(checkpoint, voice)
    after_restart = Voices(tmp_path / "kept")
    assert alike(after_restart.latents(checkpoint, voice), first)
    assert alike(after_restart.latents(checkpoint, voice), first)
    assert len(computed) == 1
    assert [file.suffix for file in (tmp_path / "kept").iterdir()] == [".safetensors"]


def test_every_checkpoint_has_its_own(
    checkpoint: Checkpoint, tuned: Checkpoint, tmp_path: Path, computed: list[str]
) -> None:
    voices, voice = Voices(tmp_path / "kept"), cloned(recording(tmp_path / "a.wav"))
    assert not alike(voices.latents(checkpoint, voice), voices.latents(tuned, voice))
    voices.latents(checkpoint, voice)
    assert computed == [checkpoint.fingerprint, tuned.fingerprint]
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_changed_recordings_are_heard_at_once(checkpoint: Checkpoint, tmp_path: Path, computed: list[str]) -> None:
    voices, voice = Voices(tmp_path / "kept"), cloned(recording(tmp_path / "a.wav"))
    before = voices.latents(checkpoint, voice)
    recording(tmp_path / "a.wav", 2.5, seed=3)
    assert not alike(voices.latents(checkpoint, voice), before)
    more = cloned(*voice.samples, recording(tmp_path / "b.wav", seed=4))
    voices.latents(checkpoint, more)
    assert len(computed) == 3
    os.utime(tmp_path / "b.wav", (1, 1))
    voices.latents(checkpoint, more)
    assert len(computed) == 3, "touched, not changed"


def test_a_voice_whose_recordings_are_gone_speaks_as_before(
    checkpoint: Checkpoint, tmp_path: Path, computed: list[str]
) -> None:
    voice = cloned(recording(tmp_path / "a.wav"))
    before = Voices(tmp_path / "kept").latents(checkpoint, voice)
    (tmp_path / "a.wav").unlink()
    assert alike(Voices(tmp_path / "kept").latents(checkpoint, voice), before)
    with pytest.raises(BadReference, match=r"'a\.wav' can't be read"):
        Voices(tmp_path / "elsewhere").latents(checkpoint, voice)


def test_a_damaged_file_of_latents_is_made_anew(checkpoint: Checkpoint, tmp_path: Path, computed: list[str]) -> None:
    voice = cloned(recording(tmp_path / "a.wav"))
    before = Voices(tmp_path / "kept").latents(checkpoint, voice)
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert alike(Voices(tmp_path / "kept").latents(checkpoint, voice), before)
    assert len(computed) == 2


def test_what_cannot_be_cloned_is_refused_by_name(checkpoint: Checkpoint, tmp_path: Path) -> None:
    voices = Voices(tmp_path / "kept")
    (tmp_path / "text.wav").write_text("this is no sound at all, and long enough to be looked at")
    soundfile.write(tmp_path / "silent.wav", np.zeros(44_100), 22_050)
    with pytest.raises(BadReference, match=r"'text\.wav' can't be decoded"):
        voices.latents(checkpoint, cloned(str(tmp_path / "text.wav")))
    with pytest.raises(BadReference, match=r"'silent\.wav' is silent"):
        voices.latents(checkpoint, cloned(str(tmp_path / "silent.wav")))
    with pytest.raises(BadReference, match=r"has 0\.50 s; a voice needs 1 s"):
        voices.latents(checkpoint, cloned(recording(tmp_path / "short.wav", 0.5)))
    assert not (tmp_path / "kept").exists()


def test_the_checkpoints_own_speakers_are_voices(checkpoint: Checkpoint, tmp_path: Path) -> None:
    first, second = models.SPEAKERS
    voices = Voices(tmp_path / "kept")
    ben = voices.latents(checkpoint, Voice("ben", "Ben", engines={"xtts": second}))
    assert torch.equal(ben.gpt, checkpoint.speakers[second][0])
    anybody = voices.latents(checkpoint, Voice("nova", "Nova", engines={"espeak": "en-us"}))
    assert torch.equal(anybody.gpt, checkpoint.speakers[first][0]), "the first one, where nothing is said"
    default = Voices(tmp_path / "kept", default=second).latents(checkpoint, Voice("nova", "Nova"))
    assert torch.equal(default.gpt, ben.gpt)
    with pytest.raises(BadReference, match=f"has no speaker 'Carl'.*it has {first}, {second}"):
        voices.latents(checkpoint, Voice("carl", "Carl", engines={"xtts": "Carl"}))


def test_a_checkpoint_without_speakers_needs_a_recording(tuned: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(EngineNotConfigured, match="set XTTS_VOICE to a recording"):
        Voices(tmp_path / "kept").latents(tuned, Voice("nova", "Nova"))
    with pytest.raises(EngineNotConfigured, match="neither a recording nor a speaker"):
        Voices(tmp_path / "kept", default="nobody.wav").latents(tuned, Voice("nova", "Nova"))
    default = recording(tmp_path / "a.wav")
    spoken = Voices(tmp_path / "kept", default=default).latents(tuned, Voice("nova", "Nova"))
    assert alike(spoken, Voices(tmp_path / "other").latents(tuned, cloned(default)))


def test_a_voice_may_name_a_speaker_a_checkpoint_or_both() -> None:
    assert Own.of(Voice("a", "A")) == Own(None, "")
    assert Own.of(Voice("a", "A", engines={"xtts": "Ada"})) == Own(None, "Ada")
    assert Own.of(Voice("a", "A", engines={"xtts": "/models/anna"})) == Own(Path("/models/anna"), "")
    assert Own.of(Voice("a", "A", engines={"xtts": "/models/anna#Ada"})) == Own(Path("/models/anna"), "Ada")
