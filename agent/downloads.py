"""`download-files`: fetches what engines need before they start; the embedded ones need nothing."""

from __future__ import annotations

from collections.abc import Sequence

from settings import Settings

EMBEDDED = {
    "pocketsphinx": "speech to text, English; its wheel carries the model",
    "companion": "chat, rule-based",
    "espeak": "text to speech; its wheel carries the voices",
}
KNOWN = {
    "whisper": "faster-whisper, speech to text",
}
BROUGHT = {
    "chat": (
        "CHAT_MODEL, the local chat model: accept its license on huggingface.co where it has one, then fetch it by its "
        "name with '.venv/bin/hf download NAME --exclude \"original/*\"' (HF_TOKEN holds the key of a gated model; a "
        "download that broke off goes on), and set ENABLE_LOCAL_MODEL=True"
    ),
    "xtts": (
        "XTTS v2, text to speech: its weights are under the Coqui Public Model License, which you accept by fetching "
        "them yourself; put config.json, vocab.json, model.pth and speakers_xtts.pth into a folder and name it in "
        "XTTS_MODEL_PATH (docs/xtts.md)"
    ),
}


class DownloadError(Exception):
    """What was asked for can't be downloaded; the message says why."""


class Downloads:
    """Downloads files for engines, by name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, names: Sequence[str]) -> str:
        """Download what the named engines need; gives the report to print.

        Args:
            names: Engines; empty asks what there is to download.

        Raises:
            DownloadError: An engine is unknown, or not part of this version.
        """
        for name in names:
            if name in KNOWN:
                raise DownloadError(
                    f"this version of Voice Node has no engine that runs {name} ({KNOWN[name]}), so there is nothing "
                    "to download for it; its download comes with the engine"
                )
            if name in BROUGHT:
                raise DownloadError(f"{name} isn't downloaded by this command. {BROUGHT[name]}")
            if name not in EMBEDDED:
                raise DownloadError(f"unknown engine '{name}': give one of {', '.join((*KNOWN, *BROUGHT, *EMBEDDED))}")
        wanted = self._settings.engines
        lines = ["Nothing to download. These engines are embedded and complete as installed:"]
        lines += [f"  {name:<13} {what}" for name, what in EMBEDDED.items()]
        lines += [
            f"Chosen now: STT={','.join(wanted.stt)} CHAT={','.join(wanted.chat)} TTS={','.join(wanted.tts)}",
            "Cloud engines need a key in the environment, no files. Files of local models "
            f"({', '.join(KNOWN)}) are downloaded by this command once this program has an engine for them.",
            *BROUGHT.values(),
        ]
        return "\n".join(lines)
