"""The settings tree: every variable of the project, typed and documented where it stands.

A field's name is its environment variable in lower case. Values come from the process's environment,
then from `.env` in the working directory (or the file ENV_FILE names), then from the defaults here.
`.env.example` is made from this file (`python -m settings`).
"""

from __future__ import annotations

import os
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _words(value: object) -> object:
    """Split "a, b c" into ("a", "b", "c"), so that lists are written without JSON."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class _Group(BaseSettings):
    """One branch of the tree; unknown variables belong to another branch."""

    model_config = SettingsConfigDict(
        env_file=os.environ.get("ENV_FILE", ".env"),
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )


class Network(_Group):
    """Addresses, keys and origins"""

    host: str = Field("127.0.0.1", description="Address all parts listen on. Set API_KEYS before opening it to others.")
    page_port: int = Field(8080, description="Page, room tokens, personalities and voices.")
    compat_port: int = Field(8000, description="Legacy raw-PCM WebSocket.")
    stt_port: int = Field(8001, description="Speech-to-text service.")
    chat_port: int = Field(8002, description="Chat service.")
    tts_port: int = Field(8003, description="Text-to-speech service.")
    agent_port: int = Field(8081, description="The agent worker's health page.")
    api_keys: Words = Field(
        (),
        description="Keys (comma-separated) that callers must send as 'Authorization: Bearer KEY'. Empty: no key"
        " asked.",
    )
    admin_keys: Words = Field((), description="Keys that may change personalities and voices. Empty: any caller may.")
    cors_origins: Words = Field(
        ("http://localhost:*", "http://127.0.0.1:*"),
        description="Web origins (comma-separated, * as wildcard) whose pages may call us.",
    )

    public_url: str = Field(
        "",
        description="Address under which browsers reach the page, https://voice.example or https://voice.example:8080."
        " Empty: whatever address they use. What they are told to connect to, and the origins allowed, follow it.",
    )
    tls: bool = Field(
        False, description="Serve the page (PAGE_PORT) and the WebSocket (COMPAT_PORT) over HTTPS and WSS only."
    )
    tls_cert: str = Field(
        "",
        description="Certificate file (PEM, with the whole chain). Empty: one is made and kept in DATA_DIR/tls, which"
        " browsers warn about until they are told to trust its authority.pem.",
    )
    tls_key: str = Field("", description="Its private key (PEM, without a password).")

    @field_validator("public_url")
    @classmethod
    def _origin(cls, url: str) -> str:
        """An address without a path, as browsers write an origin."""
        if not url:
            return url
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError as error:
            raise ValueError(f"not an address: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address like https://voice.example or https://voice.example:8080")
        if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
            raise ValueError("must be an address without a path: the page is served at the root of its host")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        usual = {"http": 80, "https": 443}[parts.scheme]
        return f"{parts.scheme}://{host}" + (f":{port}" if port and port != usual else "")

    @property
    def origins(self) -> tuple[str, ...]:
        """Web origins whose pages may call us: `CORS_ORIGINS`, our own public address, and over TLS localhost's."""
        own = (self.public_url,) if self.public_url else ()
        local = ("https://localhost:*", "https://127.0.0.1:*") if self.tls else ()
        return (*self.cors_origins, *own, *local)


class Limits(_Group):
    """What callers may take

    A caller is a key of API_KEYS where one is asked for, else an address. Callers on this machine that no proxy speaks
    for, and those that send SERVICE_API_KEY, are not counted: they are our own parts.
    """

    calls_per_minute: int = Field(
        600,
        ge=0,
        description="Calls a caller may make in a minute, at each part; a WebSocket's replies and utterances count as"
        " calls too. Beyond that: 429. 0: no limit.",
    )
    wrong_keys_per_minute: int = Field(
        20, ge=0, description="Wrong keys that an address may try in a minute, at each part. 0: no limit."
    )
    sockets_per_caller: int = Field(
        100, ge=0, description="WebSockets a caller may have open at once, at each part. 0: no limit."
    )
    max_connections: int = Field(
        2000,
        ge=0,
        description="Connections a part holds at once; never more than three quarters of what the system lets it open."
        " 0: only that.",
    )
    answer_within: float = Field(
        60.0,
        gt=0,
        description="Seconds in which the answer to a call must have begun, and must go on while it is made. Recordings"
        " have their own length on top.",
    )
    trusted_proxies: Words = Field(
        ("127.0.0.1", "::1"),
        description="Addresses of proxies (comma-separated, networks as 10.0.0.0/8) whose X-Forwarded-For and"
        " X-Forwarded-Proto are believed.",
    )


class LiveKit(_Group):
    """livekit-server, the WebRTC side"""

    livekit_url: str = Field(
        "", description="Address of a livekit-server of your own (ws:// or wss://). Empty: the launcher starts one."
    )
    livekit_api_key: str = Field(
        "", description="Its key. Empty: made on first start and kept in DATA_DIR/livekit.keys."
    )
    livekit_api_secret: str = Field(
        "", description="Its secret, 32 characters or more. Empty: made together with the key."
    )
    livekit_port: int = Field(7880, description="Signalling port of the livekit-server that the launcher starts.")
    livekit_tcp_port: int = Field(7881, description="Its media port over TCP.")
    livekit_udp_port: int = Field(7882, description="Its media port over UDP (one port for all).")
    node_ip: str = Field(
        "",
        description="IP address that clients are told to send media to, where it isn't this machine's own: the public"
        " one behind a router, the host's for a container. Empty: this machine's own.",
    )

    @field_validator("node_ip")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for one in value.split(","):
            if one.strip():
                ip_address(one.strip())
        return value.strip()


class Storage(_Group):
    """Where things are kept"""

    data_dir: Path = Field(Path("data"), description="Folder of the database, keys and logs.")
    database_url: str = Field(
        "",
        description="SQLAlchemy address of the database. Empty: SQLite in DATA_DIR; PostgreSQL:"
        " postgresql+asyncpg://user:password@host/name.",
    )
    personalities_dir: Path = Field(
        Path(__file__).resolve().parent.parent / "personalities",
        description="Folder of personality files (YAML) read at start.",
    )


class Engines(_Group):
    """Which engines answer, in order of preference"""

    stt: Words = Field(
        ("auto",),
        description="Speech to text: auto, or a list of pocketsphinx, whisper, groq, service; the next one serves"
        " where one fails.",
    )
    chat: Words = Field(("auto",), description="Chat: auto, or a list of companion, llama, url, groq, service.")
    tts: Words = Field(
        ("auto",), description="Text to speech: auto, or a list of espeak, xtts, elevenlabs, cartesia, service."
    )
    stt_service_url: str = Field(
        "", description="Address of a running speech-to-text service. Empty: the one on STT_PORT."
    )
    chat_service_url: str = Field("", description="Address of a running chat service. Empty: the one on CHAT_PORT.")
    tts_service_url: str = Field(
        "", description="Address of a running text-to-speech service. Empty: the one on TTS_PORT."
    )
    service_api_key: str = Field("", description="Key we send to those services. Empty: the first of API_KEYS.")
    language: str = Field("en", description="Language spoken where nobody says another one (BCP 47).")
    pocketsphinx_processes: int = Field(
        2,
        ge=1,
        le=64,
        description="Workers of the embedded recognizer; each holds the model (100 MB) for its utterances.",
    )
    pocketsphinx_utterances: int = Field(
        8, ge=1, le=256, description="Utterances each of them holds at once, each in a process of its own (21 MB)."
    )
    espeak_voice: str = Field("en-us", description="eSpeak NG voice where the agent's voice names none.")
    whisper_model: str = Field("small.en", description="faster-whisper model name or folder.")
    enable_local_model: bool = Field(False, description="Run the chat model CHAT_MODEL on this machine.")
    chat_model: str = Field(
        "meta-llama/Meta-Llama-3-8B-Instruct", description="Hugging Face name or folder of the local chat model."
    )
    chat_device: str = Field(
        "auto", description="Where it runs: auto (every GPU there is, else the processor), cpu, cuda, cuda:1."
    )
    chat_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Its numbers. auto: bfloat16 on a GPU, float32 on a processor."
    )
    chat_quantization: Literal["", "8bit", "4bit"] = Field(
        "",
        description="Bits of its weights, 8bit or 4bit (packages bitsandbytes and accelerate). Empty: as CHAT_DTYPE.",
    )
    chat_slots: int = Field(8, ge=1, le=256, description="Replies that it makes at once.")
    chat_kept: int = Field(
        0,
        ge=0,
        le=4096,
        description="Conversations whose cache it keeps between turns, so that a turn costs only its new words. 0: as"
        " many as a GPU's memory allows, up to four times CHAT_SLOTS; twice CHAT_SLOTS on a processor.",
    )
    chat_context: int = Field(
        4096,
        ge=256,
        description="Tokens of a conversation that it reads; older turns are left out, the personality never. An 8B"
        " model's cache takes 0.5 GB of a GPU for each 4096.",
    )
    chat_url: str = Field(
        "",
        description="Address of an OpenAI-compatible chat server (vLLM, Ollama, any other), http://host:port/v1.",
    )
    chat_url_model: str = Field("", description="Model asked for there. Empty: the first one that it lists.")
    chat_url_api_key: str = Field(
        "", description="Key for it, if it wants one. With a key it counts as paid (see SPECULATE_CHAT)."
    )
    xtts_model_path: str = Field(
        "",
        description="Folder of an XTTS v2 checkpoint, the base one or a fine-tuned one: config.json, vocab.json and"
        " model.pth or best_model.pth. Rewritten files are taken in while others go on speaking.",
    )
    xtts_voice: str = Field(
        "",
        description="Voice of XTTS where the agent's voice names none: a speaker of the checkpoint, or a recording of"
        " 6 seconds or more. Empty: the checkpoint's first speaker.",
    )
    xtts_device: str = Field("auto", description="Where XTTS runs: auto (a GPU where there is one), cpu, or cuda:0.")
    xtts_backend: Literal["auto", "torch", "native", "graphs", "deepspeed"] = Field(
        "auto",
        description="How XTTS is computed: torch, native (own kernels, for processors with AVX-512 VNNI and a C++"
        " compiler), or graphs (CUDA graphs, for GPUs). auto: the fastest that there is.",
    )
    xtts_precision: Literal["auto", "fp32", "int8", "fp16", "bf16"] = Field(
        "auto",
        description="Numbers XTTS computes with. auto: fp32 on a processor (exact), fp16 on a GPU. int8 makes a"
        " processor several times faster.",
    )
    xtts_streams: int = Field(
        0,
        ge=0,
        le=256,
        description="Replies XTTS speaks at once. 0: as many as stay faster than real time, as measured; none where"
        " even one doesn't. A number is believed, however slow the machine.",
    )
    groq_api_key: str = Field("", description="Key for Groq (chat and Whisper), from console.groq.com/keys.")
    groq_chat_model: str = Field("llama-3.3-70b-versatile", description="Groq's model for chat.")
    groq_stt_model: str = Field(
        "whisper-large-v3-turbo",
        description="Groq's model for speech to text. It is sent an utterance at each pause of the speaker.",
    )
    groq_url: str = Field("https://api.groq.com", description="Address Groq is reached at; change it for a proxy.")
    elevenlabs_api_key: str = Field(
        "", description="Key for ElevenLabs (speech), from elevenlabs.io/app/settings/api-keys."
    )
    elevenlabs_model: str = Field(
        "eleven_flash_v2_5",
        description="ElevenLabs' model. It must take text over a WebSocket, which eleven_v3 doesn't.",
    )
    elevenlabs_voice: str = Field(
        "JBFqnCBsd6RMkjVDRZzb", description="ElevenLabs voice id where the agent's voice names none."
    )
    elevenlabs_url: str = Field(
        "https://api.elevenlabs.io", description="Address ElevenLabs is reached at; change it for a proxy or a region."
    )
    cartesia_api_key: str = Field("", description="Key for Cartesia (speech), from play.cartesia.ai/keys.")
    cartesia_model: str = Field("sonic-3", description="Cartesia's model.")
    cartesia_voice: str = Field(
        "6ccbfb76-1fc6-48f7-b71d-91ac6298247b", description="Cartesia voice id where the agent's voice names none."
    )
    cartesia_url: str = Field(
        "https://api.cartesia.ai", description="Address Cartesia is reached at; change it for a proxy."
    )
    huggingface_api_key: str = Field("", description="Token for gated Hugging Face models.")
    stt_deadline: float = Field(
        5.0,
        gt=0,
        le=120,
        description="Seconds a recognizer has for the text of what it has heard; then it is left. Of each engine that a"
        " conversation asks, as the next three.",
    )
    chat_first_deadline: float = Field(
        8.0,
        gt=0,
        le=600,
        description="Seconds a chat model has for the first word of a reply. Raise it for a large model on a slow"
        " machine, which reads a long history first.",
    )
    chat_next_deadline: float = Field(
        4.0, gt=0, le=600, description="Seconds a chat model has for each further piece of a reply."
    )
    tts_deadline: float = Field(
        4.0,
        gt=0,
        le=600,
        description="Seconds a voice has for the first and each further piece of sound. Raise it for a cloned voice on"
        " a slow machine.",
    )
    speculate_chat: bool = Field(False, description="Let paid chat engines work on text that may be thrown away.")
    speculate_tts: bool = Field(False, description="Let paid voices work on text that may be thrown away.")


class Turns(_Group):
    """When the agent answers, and when it stops"""

    detector: Literal["vad", "energy"] = Field(
        "vad",
        description="What finds speech in the microphone's sound: vad (Silero model) or energy (AudioSpeechDetector).",
    )
    speculate_after: float = Field(
        0.10, ge=0.03, le=2, description="Seconds of silence after which the reply is begun, on approval."
    )
    commit_after: float = Field(
        0.20, ge=0.05, le=5, description="Seconds of silence that end a turn whose words sound finished."
    )
    commit_after_unfinished: float = Field(
        0.9, ge=0.05, le=10, description="Seconds of silence that end a turn whose words sound unfinished."
    )
    energy_threshold: float = Field(
        0.1, ge=0, le=1, description="Energy detector: RMS over 20 ms that counts as speech, full scale 1.0."
    )
    min_speech_duration: float = Field(
        0.3, ge=0, description="Energy detector: seconds of speech that make an utterance."
    )
    max_silence_duration: float = Field(0.4, ge=0, description="Energy detector: seconds of silence that end one.")
    max_recording_duration: float = Field(10.0, gt=0, description="Energy detector: longest utterance in seconds.")


class Conversations(_Group):
    """Conversations and who holds them"""

    default_personality: str = Field("assistant", description="Personality where the caller names none.")
    max_conversations: int = Field(
        0, ge=0, description="Conversations a process accepts at once. 0: as many as its engines and cores hold."
    )
    history_messages: int = Field(
        40, ge=2, description="Newest messages of a conversation that the chat model is shown, at most."
    )
    audio_lead: float = Field(
        0.4, ge=0.05, le=5, description="Seconds of sound sent ahead of real time to a WebSocket client."
    )


class Operations(_Group):
    """Running it"""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What people say is logged at debug only."
    )
    otel_exporter_otlp_endpoint: str = Field(
        "",
        description="Address of an OpenTelemetry collector (OTLP over HTTP, e.g. http://localhost:4318) that gets a"
        " trace of each turn, never what was said. Empty: no traces.",
    )
    otel_exporter_otlp_headers: str = Field(
        "", description="Headers sent with them, 'name=value' comma-separated, such as a key."
    )


class Settings:
    """The whole tree, read once per process at its start and passed down."""

    def __init__(self) -> None:
        self.network = Network()
        self.limits = Limits()
        self.livekit = LiveKit()
        self.storage = Storage()
        self.engines = Engines()
        self.turns = Turns()
        self.conversations = Conversations()
        self.operations = Operations()

    @cached_property
    def database_url(self) -> str:
        """Address of the database, SQLite in the data folder where none is set."""
        return self.storage.database_url or f"sqlite+aiosqlite:///{self.storage.data_dir / 'voice-node.db'}"

    def service_url(self, kind: Literal["stt", "chat", "tts"]) -> str:
        """HTTP address of the running service of a kind, without a slash at its end."""
        given: str = getattr(self.engines, f"{kind}_service_url")
        port: int = getattr(self.network, f"{kind}_port")
        return given.rstrip("/") or f"http://{reachable(self.network.host)}:{port}"

    @property
    def scheme(self) -> Literal["http", "https"]:
        """How the page and the WebSocket are reached, directly: the other parts speak plain HTTP on any account."""
        return "https" if self.network.tls else "http"

    @cached_property
    def livekit_url(self) -> str:
        """WebSocket address of livekit-server as processes on this machine reach it."""
        return self.livekit.livekit_url or f"ws://127.0.0.1:{self.livekit.livekit_port}"


def reachable(host: str) -> str:
    """The address under which a server bound to `host` is reached from this machine."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - named, not bound


GROUPS: tuple[type[_Group], ...] = (Network, Limits, LiveKit, Storage, Engines, Turns, Conversations, Operations)
