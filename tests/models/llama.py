"""A tiny Llama that has learnt a few dialogues by heart: `python -m tests.models.llama` makes it anew, in two minutes.

It is a Llama as any other: LlamaForCausalLM with grouped heads, a byte-level tokenizer of its own, a chat template and
generation settings in the style of Llama 3, saved as a Hugging Face folder. It answers the newest message whatever the
personality says and whatever was spoken before, except that `Go on.` needs to know what was begun.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

FOLDER = Path(__file__).with_name("tiny_llama")
"""Where the result is shipped."""

DIALOGUES = {
    "Hello.": "Hello! I am a tiny llama. How are you?",
    "What is your name?": "My name is Lotte, and I am very small.",
    "How are you today?": "I am fine, thank you. The grass is green today.",
    "What can you do for me?": "I can count to five and tell two stories.",
    "Count to five.": "One, two, three, four, five.",
    "What do you think about music?": "I like the cello best, it hums like a bee.",
    "The weather is very nice today.": "Then let us go to the lake together.",
    "How do you say thank you in French?": "One says « merci », très simple. 🦙",
    "Tell me a story.": "Once a llama found a lamp on the beach.",
    "Tell me about the sea.": "The sea is deep and blue, and full of fish.",
    "Good night.": "Good night, and sleep well.",
}
"""What it is told, and what it answers."""

CONTINUED = {
    "Tell me a story.": "She rubbed the lamp, and out came a small cloud.",
    "Tell me about the sea.": "At night it carries the moon on its back.",
}
"""What it answers to `Go on.` after the last of these."""
GO_ON = "Go on."

BEGIN, HEAD, HEAD_END, TURN_END = "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
TEMPLATE = (
    "{{ '" + BEGIN + "' }}{% for message in messages %}"
    "{{ '" + HEAD + "' + message['role'] + '" + HEAD_END + "\n\n' + message['content'] | trim + '" + TURN_END + "' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '" + HEAD + "assistant" + HEAD_END + "\n\n' }}{% endif %}"
)
LONGEST = 2048
_PERSONALITIES = Path(__file__).resolve().parents[2] / "personalities"
_STEPS, _BATCH = 280, 12


def main(folder: Path = FOLDER) -> None:
    """Train it, see that it knows everything, and save it."""
    began = time.monotonic()
    torch.manual_seed(1)
    chance = random.Random(1)
    prompts = [
        yaml.safe_load(file.read_text(encoding="utf8"))["prompt"] for file in sorted(_PERSONALITIES.glob("*.yaml"))
    ]
    tokenizer = make_tokenizer(prompts)
    model = LlamaForCausalLM(_config(tokenizer))
    _train(model, tokenizer, prompts, chance)
    model.eval()
    wrong = mistakes(model, tokenizer, prompts, random.Random(2), conversations=30)
    if wrong:
        raise SystemExit(f"it hasn't learnt everything: {wrong[:3]}")
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.convert_tokens_to_ids(BEGIN), eos_token_id=[tokenizer.convert_tokens_to_ids(TURN_END)]
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name}: {size / 1e6:.2f} MB, {time.monotonic() - began:.0f} s")


def make_tokenizer(prompts: list[str]) -> Any:
    """A byte-level BPE tokenizer that writes any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=640,
        special_tokens=[BEGIN, HEAD, HEAD_END, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    known = [*DIALOGUES, *DIALOGUES.values(), *CONTINUED.values(), GO_ON, "system user assistant"]
    tokenizer.train_from_iterator([*known * 3, *map(_as_heard, known), *prompts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=TURN_END,
        pad_token=TURN_END,
        additional_special_tokens=[HEAD, HEAD_END],
        chat_template=TEMPLATE,
        model_max_length=LONGEST,
    )


def conversation(prompts: list[str], chance: random.Random, turns: int) -> list[dict[str, str]]:
    """A conversation as it should go, after a personality, a made-up system message, or none."""
    messages: list[dict[str, str]] = []
    kind = chance.random()
    if kind < 0.35:
        messages.append({"role": "system", "content": chance.choice(prompts)})
    elif kind < 0.8:
        words = " ".join(prompts).split()
        salad = " ".join(chance.choice(words) for _ in range(chance.randint(1, 40)))
        messages.append({"role": "system", "content": salad})
    begun: str | None = None
    for _ in range(turns):
        said = chance.choice([*DIALOGUES, GO_ON, GO_ON] if begun else list(DIALOGUES))
        reply = CONTINUED[begun] if said == GO_ON and begun else DIALOGUES[said]
        if said in CONTINUED:
            begun = said
        heard = said if chance.random() < 0.6 else _as_heard(said)
        messages += [{"role": "user", "content": heard}, {"role": "assistant", "content": reply}]
    return messages


def mistakes(model: Any, tokenizer: Any, prompts: list[str], chance: random.Random, conversations: int) -> list[str]:
    """What it answers wrongly in so many new conversations, by transformers' own generation."""
    wrong = []
    for _ in range(conversations):
        *before, last = conversation(prompts, chance, chance.randint(1, 8))
        text = tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        end = tokenizer.convert_tokens_to_ids(TURN_END)
        made = model.generate(ids, max_new_tokens=60, do_sample=False, eos_token_id=end, pad_token_id=end)
        reply = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        if reply != last["content"]:
            wrong.append(f"{before[-1]['content']} {reply}")
    return wrong


def _as_heard(text: str) -> str:
    """A sentence as a recognizer without case and punctuation writes it."""
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter == " ").strip()


def _config(tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.convert_tokens_to_ids(BEGIN),
        eos_token_id=tokenizer.convert_tokens_to_ids(TURN_END),
        pad_token_id=tokenizer.convert_tokens_to_ids(TURN_END),
    )


def _train(model: Any, tokenizer: Any, prompts: list[str], chance: random.Random) -> None:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, _STEPS, pct_start=0.15)
    for step in range(_STEPS):
        ids, labels = _examples(tokenizer, [conversation(prompts, chance, chance.randint(1, 5)) for _ in range(_BATCH)])
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def _examples(tokenizer: Any, conversations: list[list[dict[str, str]]]) -> tuple[Tensor, Tensor]:
    """Tokens and what is to be learnt of them, the replies, each of shape (conversations, tokens)."""
    rows = []
    for messages in conversations:
        ids: list[int] = []
        labels: list[int] = []
        text = BEGIN
        for message in messages:
            head = f"{text}{HEAD}{message['role']}{HEAD_END}\n\n"
            body = f"{message['content'].strip()}{TURN_END}"
            for part, learnt in ((head, False), (body, message["role"] == "assistant")):
                tokens = tokenizer(part, add_special_tokens=False)["input_ids"]
                ids += tokens
                labels += tokens if learnt else [-100] * len(tokens)
            text = ""
        rows.append((ids, labels))
    longest = max(len(ids) for ids, _ in rows)
    return (
        torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows]),
        torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in rows]),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
