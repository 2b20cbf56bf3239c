"""The agent's command line. LiveKit's own `console`, `dev` and `download-files` are deprecated and do less."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from settings import Settings

LEVELS = ("debug", "info", "warning", "error")
DRAIN = 30.0
"""Seconds that conversations may go on after SIGTERM: what Kubernetes gives a pod by default."""

CLOUD_VARIABLES = (
    "LIVEKIT_AGENT_NAME",
    "LIVEKIT_AGENT_NAME_OVERRIDE",
    "LIVEKIT_WORKER_TOKEN",
    "LIVEKIT_AGENT_DEPLOYMENT",
)
"""Variables by which LiveKit Cloud steers workers it hosts: a named worker gets no room of ours by itself."""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="python agent/main.py",
        description="Voice Node's agent: talks to people in LiveKit rooms, or in this terminal.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    start = commands.add_parser(
        "start",
        help="serve rooms (production)",
        description="Register with livekit-server and talk in every room that is created. SIGTERM drains: no new "
        "rooms, conversations go on for --drain seconds. SIGINT or a second signal stops at once.",
    )
    _log_level(start, None)
    start.add_argument(
        "--drain",
        type=_seconds,
        default=DRAIN,
        metavar="SECONDS",
        help="how long conversations may go on after SIGTERM (default %(default).0f; 0: not at all)",
    )

    dev = commands.add_parser(
        "dev",
        help="serve rooms, with debug logs, starting anew when our code changes",
        description="Like start, with debug logs (they hold what people say) and a restart whenever a Python file of "
        "this project changes. Conversations under way are taken up again by the new worker.",
    )
    _log_level(dev, "debug")
    dev.add_argument("--no-reload", action="store_true", help="don't watch files")

    console = commands.add_parser(
        "console",
        help="talk to the agent in this terminal, without any server",
        description="A conversation in this terminal: by microphone and loudspeaker, or with --text by keyboard. "
        "Needs no livekit-server. Ctrl-D or Ctrl-C ends it.",
    )
    console.add_argument("--text", action="store_true", help="type instead of speaking; needs no audio library")
    console.add_argument("--personality", metavar="ID", help="who answers (default: DEFAULT_PERSONALITY)")
    console.add_argument(
        "--session", metavar="ID", help="go on with the conversation of this name (default: a new one)"
    )
    console.add_argument("--input-device", metavar="NAME", help="microphone, by number or part of its name")
    console.add_argument("--output-device", metavar="NAME", help="loudspeaker, by number or part of its name")
    console.add_argument("--list-devices", action="store_true", help="list microphones and loudspeakers, and end")
    _log_level(console, "warning")

    files = commands.add_parser(
        "download-files",
        help="download what engines need before they start",
        description="Nothing downloads by itself; this command does it when asked. It shows size and license, asks, "
        "and goes on where it was broken off. Without a name it says what there is.",
    )
    files.add_argument("names", nargs="*", metavar="ENGINE", help="engines whose files are wanted: chat, xtts")
    files.add_argument("--yes", action="store_true", help="accept the license and download without being asked")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all is well, 1 where a person must do something that stderr names in one line."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "dev" and not options.no_reload:
            return _reloading(options)
        if options.command in ("start", "dev"):
            return _serve(options)
        if options.command == "console":
            return _console(options)
        return _download(options)
    except KeyboardInterrupt:
        return 130


def _reloading(options: argparse.Namespace) -> int:
    from agent.reload import run_reloading

    command = [sys.executable, str(Path(__file__).with_name("main.py")), "start", "--drain", "0"]
    return asyncio.run(run_reloading([*command, "--log-level", options.log_level]))


def _serve(options: argparse.Namespace) -> int:
    # The fork server loads what jobs need while this process loads what it needs itself; both take seconds.
    from agent import forkserver
    from settings import Settings
    from settings.livekit_keys import KeysError, livekit_keys

    settings = Settings()
    try:
        key, secret = livekit_keys(settings)
    except KeysError as error:
        return _refuse(error)
    for variable in CLOUD_VARIABLES:
        os.environ.pop(variable, None)
    os.environ |= {"LIVEKIT_URL": settings.livekit_url, "LIVEKIT_API_KEY": key, "LIVEKIT_API_SECRET": secret}
    forkserver.start()

    from agent.worker import Worker, WorkerError
    from engines.types import EngineError
    from library.errors import LibraryError

    _log(options, settings)

    async def run() -> None:
        await Worker(settings, drain=0.0 if options.command == "dev" else options.drain).run()

    try:
        asyncio.run(run())
    except (WorkerError, EngineError, LibraryError) as error:
        return _refuse(error)
    return 0


def _console(options: argparse.Namespace) -> int:
    from engines.types import EngineError
    from library.errors import LibraryError
    from settings import Settings

    settings = Settings()
    _log(options, settings)
    try:
        if options.text:
            # Text mode must run where there is no audio library: only audio mode imports one.
            from agent.console import talk_by_text

            return asyncio.run(talk_by_text(settings, personality=options.personality, session_id=options.session))
        return _console_aloud(options, settings)
    except (EngineError, LibraryError) as error:
        return _refuse(error)


def _console_aloud(options: argparse.Namespace, settings: Settings) -> int:
    from agent.console_audio import AudioError, list_devices, talk_aloud

    try:
        if options.list_devices:
            print(list_devices())
            return 0
        return asyncio.run(
            talk_aloud(
                settings,
                personality=options.personality,
                session_id=options.session,
                input_device=options.input_device,
                output_device=options.output_device,
            )
        )
    except AudioError as error:
        return _refuse(error)


def _download(options: argparse.Namespace) -> int:
    from agent.downloads import DownloadError, Downloads
    from settings import Settings

    try:
        print(Downloads(Settings(), agreed=options.yes).run(options.names))
    except DownloadError as error:
        return _refuse(error)
    return 0


def _log(options: argparse.Namespace, settings: Settings) -> None:
    from agent.turns import TURN_LOGGER
    from services.logs import setup_logging

    level = options.log_level or settings.operations.log_level
    setup_logging(level)
    for handler in logging.getLogger().handlers:
        handler.setLevel(level.upper())
    # Turns are counted whether or not they are printed.
    logging.getLogger(TURN_LOGGER).setLevel(logging.INFO)
    if level == "debug":
        logging.getLogger("livekit.agents").setLevel(logging.INFO)


def _refuse(error: Exception) -> int:
    print(error, file=sys.stderr)
    return 1


def _log_level(command: argparse.ArgumentParser, default: str | None) -> None:
    described = default or "LOG_LEVEL"
    command.add_argument(
        "--log-level",
        choices=LEVELS,
        default=default,
        help=f"how much is logged (default: {described}); what people say only at debug",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 24 * 3600:
        raise argparse.ArgumentTypeError("give seconds between 0 and 86400")
    return seconds
