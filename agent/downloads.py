"""`download-files`: fetches what engines need before they start; the embedded ones need nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.hub import DownloadError, Hub, Offer, human
from settings import Settings

__all__ = ["EMBEDDED", "KNOWN", "DownloadError", "Downloads"]

EMBEDDED = {
    "pocketsphinx": "speech to text, English; its wheel carries the model",
    "companion": "chat, rule-based",
    "espeak": "text to speech; its wheel carries the voices",
}
KNOWN = {
    "whisper": "faster-whisper, speech to text",
}
FETCHED = {
    "chat": "the local chat model, CHAT_MODEL",
    "xtts": "XTTS v2, text to speech in cloned voices",
}

XTTS = "coqui/XTTS-v2"
XTTS_FILES = ("config.json", "vocab.json", "model.pth", "speakers_xtts.pth", "mel_stats.pth", "LICENSE.txt")
XTTS_LICENSE = "Coqui Public Model License, for non-commercial use only: https://coqui.ai/cpml"
CHAT_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "LICENSE*", "USE_POLICY*")
CHAT_UNWANTED = ("original/*", "*/*")
"""Weights in other formats, beside the ones that are read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a name of the command stands for.

    Attributes:
        model: On the Hugging Face Hub.
        files, unwanted: Patterns.
        folder: Where to; None for the hub's cache.
        license: What its licence is, where its owner's word for it doesn't say.
        then: What to do when it is there.
    """

    model: str
    files: Sequence[str]
    unwanted: Sequence[str]
    folder: Path | None
    license: str
    then: str


class Downloads:
    """Downloads files for engines, by name.

    Args:
        settings: Name the models, the folders and the token.
        agreed: Whether to download without asking.
        ask: Puts a question to a person; the answer.
        say: Shows a line.
        endpoint: Address of the hub; the usual one where None.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        agreed: bool = False,
        ask: Callable[[str], str] | None = None,
        say: Callable[[str], None] = print,
        endpoint: str | None = None,
    ) -> None:
        self._settings = settings
        self._agreed = agreed
        self._ask = ask or _asked
        self._say = say
        self._endpoint = endpoint

    def run(self, names: Sequence[str]) -> str:
        """Download what the named engines need; gives the report to print.

        Args:
            names: Engines; empty asks what there is to download.

        Raises:
            DownloadError: An engine is unknown or not part of this version, or the download failed.
        """
        for name in names:
            if name in KNOWN:
                raise DownloadError(
                    f"this version of Voice Node has no engine that runs {name} ({KNOWN[name]}), so there is nothing "
                    "to download for it; its download comes with the engine"
                )
            if name not in EMBEDDED and name not in FETCHED:
                raise DownloadError(f"unknown engine '{name}': give one of {', '.join((*KNOWN, *FETCHED, *EMBEDDED))}")
        done = [self._fetch(name) for name in names if name in FETCHED]
        return "\n".join(done) if done else self._overview()

    def _overview(self) -> str:
        wanted = self._settings.engines
        return "\n".join(
            [
                "Embedded and complete as installed, without a download:",
                *(f"  {name:<13} {what}" for name, what in EMBEDDED.items()),
                "Downloaded when they are named, with size and license first:",
                *(f"  {name:<13} {what}" for name, what in FETCHED.items()),
                f"Chosen now: STT={','.join(wanted.stt)} CHAT={','.join(wanted.chat)} TTS={','.join(wanted.tts)}",
                "Cloud engines need a key in the environment, no files.",
            ]
        )

    def _fetch(self, name: str) -> str:
        wanted = self._wanted(name)
        if wanted.folder is None and Path(wanted.model).expanduser().is_dir():
            return f"CHAT_MODEL is a folder, {wanted.model}: there is nothing to download."
        hub = Hub(self._settings.engines.huggingface_api_key, self._endpoint)
        offer = hub.offer(wanted.model, wanted.files, wanted.unwanted)
        if not offer.files:
            raise DownloadError(
                f"{wanted.model} has none of the files that an engine here could read; take another one."
            )
        self._tell(offer, wanted)
        if not self._agreed and self._ask("Download? [y/N] ").strip().lower() not in ("y", "yes"):
            raise DownloadError("nothing was downloaded")
        folder = hub.fetch(offer, wanted.folder, self._say)
        return f"{wanted.model} is in {folder}, whole. {wanted.then}".rstrip()

    def _tell(self, offer: Offer, wanted: Wanted) -> None:
        self._say(f"{offer.model}, version {offer.commit[:8]}: {len(offer.files)} files, {human(offer.size)}")
        for file in offer.files:
            self._say(f"  {human(file.size):>8}  {file.name}")
        self._say(f"License: {wanted.license or offer.license or 'none is named; ask its owner'}")
        if offer.gated:
            self._say(f"It is gated: its owner wants that accepted at https://huggingface.co/{offer.model} first.")
        self._say(f"To: {wanted.folder or 'the Hugging Face cache (HF_HOME)'}")

    def _wanted(self, name: str) -> Wanted:
        engines = self._settings.engines
        if name == "xtts":
            named = engines.xtts_model_path
            folder = Path(named).expanduser() if named else self._settings.storage.data_dir / "models" / "xtts-v2"
            then = "" if named else f"Set XTTS_MODEL_PATH={folder.absolute()} and TTS=xtts,espeak."
            return Wanted(XTTS, XTTS_FILES, (), folder, XTTS_LICENSE, then)
        then = "" if engines.enable_local_model else "Set ENABLE_LOCAL_MODEL=True."
        return Wanted(engines.chat_model, CHAT_FILES, CHAT_UNWANTED, None, "", then)


def _asked(question: str) -> str:
    if not sys.stdin.isatty():
        raise DownloadError("nobody is there to ask: say --yes to accept the license and download")
    return input(question)
