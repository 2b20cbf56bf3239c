"""The parts of Voice Node: what each one runs, which ports it takes, how its health is asked, what it starts after."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from settings import Settings, reachable

ROOT = Path(__file__).resolve().parent.parent
"""The project's folder; every part runs in it, so that `.env` and relative paths mean the same everywhere."""

EVERYWHERE = "0.0.0.0"  # noqa: S104 - where livekit-server listens for media


class PartsError(ValueError):
    """The parts asked for can't be started; the message names the fix."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port a part listens on, on which address, and the variable that moves it elsewhere."""

    number: int
    variable: str
    host: str
    protocol: Literal["tcp", "udp"] = "tcp"


@dataclass(frozen=True, slots=True)
class Part:
    """One process of Voice Node."""

    name: str
    command: tuple[str, ...]
    ports: tuple[Port, ...]
    health: str
    """HTTP or HTTPS address that answers 200 once the part can serve."""
    address: str
    """What a person is told about where it is."""
    after: tuple[str, ...] = ()
    """Parts that have to be healthy first, where they are started at all; and the database up to date."""


DATABASE = "database"
"""What is no part but has to be ready all the same, in `after`."""

NAMES = ("livekit", "stt", "chat", "tts", "server", "agent", "page")
"""Every part, in the order in which sound passes through them."""


def all_parts(settings: Settings, through_services: Collection[str] = ()) -> tuple[Part, ...]:
    """Every part as the settings describe it.

    Args:
        settings: Addresses and ports.
        through_services: Services that conversations need (`stt`, `chat`, `tts`): those are waited for. The others are
            started when people can already talk.
    """
    network, livekit = settings.network, settings.livekit
    host = reachable(network.host)
    python = sys.executable
    needed = tuple(name for name in ("stt", "chat", "tts") if name in through_services)

    def service(
        name: str, module: Sequence[str], port: int, variable: str, after: tuple[str, ...] = (), scheme: str = "http"
    ) -> Part:
        address = f"{scheme}://{bracketed(host)}:{port}"
        return Part(
            name, (python, "-m", *module), (Port(port, variable, network.host),), f"{address}/health", address, after
        )

    def later(name: str) -> tuple[str, ...]:
        return () if name in needed else ("server", "page")

    agent = f"http://{bracketed(host)}:{network.agent_port}"
    return (
        Part(
            "livekit",
            (livekit_server() or "livekit-server", *_livekit_options(settings)),
            (
                Port(livekit.livekit_port, "LIVEKIT_PORT", network.host),
                Port(livekit.livekit_tcp_port, "LIVEKIT_TCP_PORT", EVERYWHERE),
                Port(livekit.livekit_udp_port, "LIVEKIT_UDP_PORT", EVERYWHERE, "udp"),
            ),
            f"http://127.0.0.1:{livekit.livekit_port}/",
            f"ws://{bracketed(host)}:{livekit.livekit_port}",
        ),
        service("stt", ("services", "stt"), network.stt_port, "STT_PORT", later("stt")),
        service("chat", ("services", "chat"), network.chat_port, "CHAT_PORT", (DATABASE, *later("chat"))),
        service("tts", ("services", "tts"), network.tts_port, "TTS_PORT", (DATABASE, *later("tts"))),
        service("server", ("compat_ws",), network.compat_port, "COMPAT_PORT", (DATABASE, *needed), settings.scheme),
        Part(
            "agent",
            (python, str(ROOT / "agent" / "main.py"), "start", "--drain", "0"),
            (Port(network.agent_port, "AGENT_PORT", network.host),),
            f"{agent}/health",
            agent,
            (DATABASE, "livekit", *needed),
        ),
        service("page", ("token_server",), network.page_port, "PAGE_PORT", (DATABASE, "livekit"), settings.scheme),
    )


def chosen_parts(settings: Settings, names: Iterable[str], through_services: Collection[str] = ()) -> tuple[Part, ...]:
    """The parts asked for, as `all_parts` describes them; all of them where none is named.

    A livekit-server of the user's own (`LIVEKIT_URL`) takes the place of ours.

    Raises:
        PartsError: A name is unknown, `livekit` is asked for although `LIVEKIT_URL` is set, or livekit-server is
            not installed.
    """
    asked = tuple(names)
    for name in asked:
        if name not in NAMES:
            raise PartsError(f"there is no part {name!r}; the parts are: {', '.join(NAMES)}")
    theirs = bool(settings.livekit.livekit_url)
    if theirs and "livekit" in asked:
        raise PartsError("LIVEKIT_URL names a livekit-server of your own: unset it to have one started here")
    wanted = asked or tuple(name for name in NAMES if not (theirs and name == "livekit"))
    if "livekit" in wanted and livekit_server() is None:
        raise PartsError("livekit-server is neither on PATH nor in .tools/bin: 'make setup' fetches it")
    return tuple(part for part in all_parts(settings, through_services) if part.name in wanted)


def livekit_server() -> str | None:
    """The livekit-server program: on PATH, else in the project's tool folder; None where it is in neither."""
    return shutil.which("livekit-server") or shutil.which(ROOT / ".tools" / "bin" / "livekit-server")


def _livekit_options(settings: Settings) -> tuple[str, ...]:
    host, livekit = settings.network.host, settings.livekit
    # Bound to one address of the machine, it must be on loopback too, where agent and page reach it.
    addresses = [host] if host in ("127.0.0.1", "localhost", EVERYWHERE, "::") else ["127.0.0.1", host]
    return (
        f"--config={ROOT / 'livekit.yaml'}",
        *(f"--bind={address}" for address in addresses),
        f"--port={livekit.livekit_port}",
        f"--rtc.tcp_port={livekit.livekit_tcp_port}",
        f"--udp-port={livekit.livekit_udp_port}",
        *([f"--node-ip={livekit.node_ip}"] if livekit.node_ip else []),
    )


def bracketed(host: str) -> str:
    """A host as it stands in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
