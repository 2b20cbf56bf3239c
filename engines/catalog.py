"""Every engine by its name: how to tell that it is configured, how to build it, where it runs.

A new engine is one more entry in one of the three tables. Within a table the best comes first: `auto` takes the first
one that is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, Literal, NoReturn, TypeAlias, TypeVar

from engines.types import ChatModel, Engine, EngineNotConfigured, Kind, Synthesizer, Transcriber
from settings import Settings

E_co = TypeVar("E_co", bound=Engine, covariant=True)

Runs: TypeAlias = Literal["conversation", "service"]
"""`conversation`: in whichever process asks for it. `service`: one copy per machine, in the service of its kind."""


@dataclass(frozen=True, slots=True)
class Entry(Generic[E_co]):
    """One engine that the lists `STT`, `CHAT` and `TTS` may name."""

    name: str
    runs: Runs
    lacks: Callable[[Settings], str]
    """What has to be done before the engine can be built, as a sentence; empty where nothing is lacking."""
    build: Callable[[Settings], E_co]
    """Make the engine, without loading anything."""


def _package(module: str) -> Callable[[Settings], str]:
    def lacks(_: Settings) -> str:
        return "" if find_spec(module) else f"The package {module} isn't installed; run 'make setup'."

    return lacks


def _xtts_lacks(settings: Settings) -> str:
    """A checkpoint's folder, its files, or the packages that run it; the packages are heavy and not loaded here."""
    if not settings.engines.xtts_model_path:
        return "XTTS_MODEL_PATH isn't set; it names the folder of an XTTS v2 checkpoint (see docs/xtts.md)."
    folder = Path(settings.engines.xtts_model_path).expanduser()
    if not folder.is_dir():
        return f"XTTS_MODEL_PATH={folder}: there is no such folder."
    for pattern in ("config.json", "vocab.json", "*model.pth checkpoint_*.pth"):
        if not any(file.is_file() for name in pattern.split() for file in folder.glob(name)):
            wanted = pattern.replace("*model.pth checkpoint_*.pth", "model.pth or best_model.pth")
            return f"XTTS_MODEL_PATH={folder} has no {wanted}; put the whole checkpoint there."
    missing = [package for package, module in _XTTS_PACKAGES.items() if not find_spec(module)]
    return f"XTTS needs {', '.join(missing)}, not installed; run 'make setup EXTRAS=local'." if missing else ""


_XTTS_PACKAGES = {"torch": "torch", "torchaudio": "torchaudio", "coqui-tts": "TTS", "safetensors": "safetensors"}


def _not_carried(name: str, variable: str = "", needs: str = "") -> Callable[[Settings], str]:
    """What to say of an engine that has a name and settings but no code in this version."""

    def lacks(settings: Settings) -> str:
        state = ""
        if variable:
            configured = bool(getattr(settings.engines, variable.lower()))
            state = f", though {variable} is set" if configured else f" (and {variable}, {needs}, isn't set)"
        return f"This version carries no engine '{name}' yet{state}; leave '{name}' out of the list."

    return lacks


def _key(variable: str, module: str) -> Callable[[Settings], str]:
    """What a cloud engine lacks: its key, or its vendor's package."""

    def lacks(settings: Settings) -> str:
        if not getattr(settings.engines, variable.lower()):
            return f"{variable} isn't set; put a key for it into .env."
        return _package(module)(settings)

    return lacks


def _address(settings: Settings) -> str:
    """What a chat server by its address lacks."""
    url = settings.engines.chat_url
    if not url:
        return (
            "CHAT_URL isn't set; give it the address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1."
        )
    if not url.startswith(("http://", "https://")):
        return f"CHAT_URL={url} is no address; write it as http://host:port/v1."
    return _package("openai")(settings)


def _local_model(settings: Settings) -> str:
    """What the local chat model lacks: to be asked for, its packages, or its files."""
    if not settings.engines.enable_local_model:
        return "ENABLE_LOCAL_MODEL isn't set; set it to True to run CHAT_MODEL on this machine."
    for module in ("torch", "transformers"):
        if not find_spec(module):
            return f"The local chat model needs the package {module}; run 'make setup EXTRAS=local'."
    from engines.chat.llama.folder import find

    try:
        find(settings.engines.chat_model)
    except EngineNotConfigured as error:
        return error.message
    return ""


def _never(_: Settings) -> NoReturn:
    raise EngineNotConfigured("This version carries no such engine.")


def _nothing(_: Settings) -> str:
    return ""


def _pocketsphinx(settings: Settings) -> Transcriber:
    from engines.stt.pocketsphinx import PocketSphinx

    return PocketSphinx(settings.engines.pocketsphinx_processes, settings.engines.pocketsphinx_utterances)


def _groq_stt(settings: Settings) -> Transcriber:
    from engines.stt.groq import GroqTranscriber

    wanted = settings.engines
    return GroqTranscriber(wanted.groq_api_key, wanted.groq_stt_model, wanted.groq_url)


def _groq_chat(settings: Settings) -> ChatModel:
    from engines.chat.groq import GroqChat

    wanted = settings.engines
    return GroqChat(wanted.groq_api_key, wanted.groq_chat_model, wanted.groq_url)


def _chat_url(settings: Settings) -> ChatModel:
    from engines.chat.url import UrlChat

    wanted = settings.engines
    return UrlChat(wanted.chat_url, wanted.chat_url_model, wanted.chat_url_api_key)


def _llama(settings: Settings) -> ChatModel:
    from engines.chat.llama.engine import LlamaChat
    from engines.chat.llama.options import Options

    wanted = settings.engines
    return LlamaChat(
        Options(
            wanted.chat_model,
            wanted.chat_device,
            wanted.chat_dtype,
            wanted.chat_quantization,
            wanted.chat_slots,
            wanted.chat_kept,
            wanted.chat_context,
        )
    )


def _companion(settings: Settings) -> ChatModel:
    from engines.chat.companion import Companion

    return Companion()


def _elevenlabs(settings: Settings) -> Synthesizer:
    from engines.tts.elevenlabs import ElevenLabs

    wanted = settings.engines
    return ElevenLabs(
        wanted.elevenlabs_api_key, wanted.elevenlabs_model, wanted.elevenlabs_voice, wanted.elevenlabs_url
    )


def _cartesia(settings: Settings) -> Synthesizer:
    from engines.tts.cartesia import Cartesia

    wanted = settings.engines
    return Cartesia(wanted.cartesia_api_key, wanted.cartesia_model, wanted.cartesia_voice, wanted.cartesia_url)


def _espeak(settings: Settings) -> Synthesizer:
    from engines.tts.espeak import Espeak

    return Espeak(settings.engines.espeak_voice)


def _xtts(settings: Settings) -> Synthesizer:
    from engines.tts.xtts.xtts import Xtts

    return Xtts.from_settings(settings)


def _stt_service(settings: Settings) -> Transcriber:
    from engines.stt.service import ServiceTranscriber

    return ServiceTranscriber.from_settings(settings)


def _chat_service(settings: Settings) -> ChatModel:
    from engines.chat.service import ServiceChat

    return ServiceChat.from_settings(settings)


def _tts_service(settings: Settings) -> Synthesizer:
    from engines.tts.service import ServiceSynthesizer

    return ServiceSynthesizer.from_settings(settings)


def _table(*entries: Entry[E_co]) -> Mapping[str, Entry[E_co]]:
    return {entry.name: entry for entry in entries}


SERVICE = "service"
"""The name of a running service as an engine; `auto` never takes it by itself."""

STT: Mapping[str, Entry[Transcriber]] = _table(
    Entry("whisper", "service", _not_carried("whisper"), _never),
    Entry("groq", "conversation", _key("GROQ_API_KEY", "groq"), _groq_stt),
    Entry("pocketsphinx", "conversation", _package("pocketsphinx"), _pocketsphinx),
    Entry(SERVICE, "conversation", _nothing, _stt_service),
)

CHAT: Mapping[str, Entry[ChatModel]] = _table(
    Entry("llama", "service", _local_model, _llama),
    Entry("url", "conversation", _address, _chat_url),
    Entry("groq", "conversation", _key("GROQ_API_KEY", "groq"), _groq_chat),
    Entry("companion", "conversation", _nothing, _companion),
    Entry(SERVICE, "conversation", _nothing, _chat_service),
)

TTS: Mapping[str, Entry[Synthesizer]] = _table(
    Entry("xtts", "service", _xtts_lacks, _xtts),
    Entry("elevenlabs", "conversation", _key("ELEVENLABS_API_KEY", "elevenlabs"), _elevenlabs),
    Entry("cartesia", "conversation", _key("CARTESIA_API_KEY", "cartesia"), _cartesia),
    Entry("espeak", "conversation", _package("espeakng_loader"), _espeak),
    Entry(SERVICE, "conversation", _nothing, _tts_service),
)

CATALOG: Mapping[Kind, Mapping[str, Entry[Engine]]] = {"stt": STT, "chat": CHAT, "tts": TTS}
