"""Small XTTS checkpoints in the real layout: random weights, coqui's own networks, a tokenizer of the real shape.

They sound like noise, but every code depends on voice, text and all codes before, and they end where they are told to:
the first number of every position's state carries nothing but how far the stream is, and the stop code's logit reads
nothing else. The vocoder has its full size, which coqui's code fixes; only its input is as narrow as the transformer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "pl", "tr", "ru", "nl", "cs", "ar", "zh-cn", "hu", "ko", "ja", "hi")
SPEAKERS = ("Small Ada", "Small Ben")
START_TEXT = 261

_LETTERS = (
    "!'(),-./:;?¡¿abcdefghijklmnopqrstuvwxyz0123456789"
    "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿąćčďęěğıłńňœőřśšşťůűźżž"
    "абвгдежзийклмнопрстуфхцчшщъыьэюяё،؟ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي"
    "ँंःअआइईउऊऋएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसहािीुूेैोौ्"
)
_MERGES = ("t h", "th e", "i n", "a n", "e r", "o n", "r e", "a t", "h e", "an d", "o u", "in g")


def base(
    folder: Path,
    *,
    ends_after: int | None = 90,
    most_codes: int = 602,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    seed: int = 0,
) -> Path:
    """Write a base checkpoint as it was released: config.json, model.pth, vocab.json, speakers_xtts.pth.

    Args:
        folder: Where; made if it isn't there.
        ends_after: After how many codes every stream makes its stop code; None for never.
        most_codes: How many codes a stream may have, the stop code included.
        layers: Transformer layers.
        width: Numbers in a state of the transformer, and in a latent.
        heads: Attention heads.
        seed: Another one, other weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf8")
    config, state = _network(len(vocabulary["model"]["vocab"]), ends_after, layers, width, heads, seed, most_codes)
    config.save_json(folder / "config.json")
    _save_as_released(config, state, folder / "model.pth")
    torch.save(
        {
            name: {"gpt_cond_latent": _noise(number, 1, 32, width), "speaker_embedding": _noise(number, 1, 512, 1) / 20}
            for number, name in enumerate(SPEAKERS)
        },
        folder / "speakers_xtts.pth",
    )
    return folder


def fine_tuned(folder: Path, *, more_tokens: int = 40, ends_after: int | None = 90, seed: int = 1) -> Path:
    """Write what a training run leaves: best_model.pth with the trainer's keys, another vocabulary, no speakers."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary(more_tokens)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf8")
    config, state = _network(len(vocabulary["model"]["vocab"]), ends_after, 2, 64, 4, seed)
    stats = state.pop("mel_stats")
    written = config.to_dict()
    written["model_args"] |= {
        "xtts_checkpoint": "base/model.pth",
        "max_wav_length": 255995,
        "gpt_loss_mel_ce_weight": 1.0,
    }
    (folder / "config.json").write_text(json.dumps(written), encoding="utf8")
    saved = {f"xtts.{key}": tensor for key, tensor in state.items()}
    saved |= {"dvae.codebook.embed": _noise(0, 8, 16), "torch_mel_spectrogram_dvae.mel_norms": torch.ones(80)}
    saved |= {"xtts.gpt.gpt.wte.weight": state["gpt.mel_embedding.weight"]}
    training = {"config": written, "optimizer": {"state": {}, "param_groups": []}, "step": 1000, "epoch": 3}
    torch.save({"model": saved, **training}, folder / "best_model.pth")
    torch.save({"dvae": saved["dvae.codebook.embed"]}, folder / "dvae.pth")
    torch.save(stats, folder / "mel_stats.pth")
    return folder


def _save_as_released(config: Any, state: dict[str, Tensor], file: Path) -> None:
    """Save as in 2023: the configuration an object of classes that have moved since, weight norms under old keys."""
    from TTS.tts.models.xtts import _legacy_safe_globals

    old = (("parametrizations.weight.original0", "weight_g"), ("parametrizations.weight.original1", "weight_v"))
    for new, before in old:
        state = {key.replace(new, before): tensor for key, tensor in state.items()}
    with _legacy_safe_globals():
        torch.save({"model": state, "config": config}, file)


def _network(
    tokens: int, ends_after: int | None, layers: int, width: int, heads: int, seed: int, most_codes: int = 602
) -> tuple[Any, dict[str, Tensor]]:
    """Coqui's configuration and the state of coqui's network."""
    from TTS.tts.configs.xtts_config import XttsConfig
    from TTS.tts.models.xtts import Xtts

    config: Any = XttsConfig(temperature=0.75, repetition_penalty=5.0, top_k=50, top_p=0.85, gpt_cond_len=30)
    arguments = config.model_args
    arguments.gpt_max_audio_tokens = most_codes + 3
    arguments.gpt_layers, arguments.gpt_n_model_channels, arguments.gpt_n_heads = layers, width, heads
    arguments.gpt_number_text_tokens, arguments.gpt_start_text_token, arguments.gpt_stop_text_token = (
        tokens,
        START_TEXT,
        0,
    )
    arguments.gpt_num_audio_tokens, arguments.gpt_start_audio_token, arguments.gpt_stop_audio_token = 1026, 1024, 1025
    arguments.gpt_use_perceiver_resampler, arguments.decoder_input_dim = True, width
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model: Any = Xtts(config)
        _enliven(model.gpt, ends_after)
        return config, model.state_dict()


def _enliven(gpt: Any, ends_after: int | None) -> None:
    """Give the transformer weights under which all of its input matters, and let it end where it should."""
    for module in gpt.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.5)
    for block in gpt.gpt.h:
        for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
            nn.init.normal_(layer.weight, std=1.5 * len(layer.weight) ** -0.5)
        for layer in (block.attn.c_proj, block.mlp.c_proj):
            layer.weight[:, 0] = 0
    nn.init.normal_(gpt.mel_head.weight, std=0.4)
    nn.init.zeros_(gpt.mel_head.bias)
    gpt.mel_embedding.weight[:, 0] = 0
    positions = gpt.mel_pos_embedding.emb.weight
    positions[:, 0] = torch.tensor(
        [-4.0 if ends_after is None or at < ends_after else 4.0 for at in range(len(positions))]
    )
    gpt.mel_head.weight[:, 0] = 0
    gpt.mel_head.weight[gpt.stop_audio_token] = 0
    gpt.mel_head.weight[gpt.stop_audio_token, 0] = 20


def _vocabulary(more: int = 0) -> dict[str, Any]:
    """A byte-pair tokenizer as XTTS has it: [STOP] 0, [UNK] 1, [SPACE] 2, letters, tags, [START] 261, merges."""
    tags = [f"[{language}]" for language in LANGUAGES]
    first = ["[STOP]", "[UNK]", "[SPACE]", *_LETTERS]
    assert len(set(first)) == len(first) < START_TEXT - len(tags)
    first += [f"[unused{number}]" for number in range(START_TEXT - len(tags) - len(first))]
    tokens = [*first, *tags, "[START]", *(merge.replace(" ", "") for merge in _MERGES)]
    tokens += [f"[added{number}]" for number in range(more)]
    special = ["[STOP]", "[UNK]", "[SPACE]", *tags, "[START]"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": tokens.index(token),
                "content": token,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for token in special
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": list(_MERGES),
        },
    }


def _noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
