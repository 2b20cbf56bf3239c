"""The agent's command line. LiveKit's own `console`, `dev` and `download-files` are deprecated and do less."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.downloads import DownloadError, Downloads
from engines.types import EngineError
from library.errors import LibraryError
from services.logs import setup_logging
from settings import Settings
from settings.livekit_keys import KeysError

LEVELS = ("debug", "info", "warning", "error")
DRAIN = 30.0
"""Seconds that conversations may go on after SIGTERM: what Kubernetes gives a pod by default."""


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
        description="Register with livekit-server and talk in every room that is created. SIGTERM drains: no new rooms, "
        "conversations go on for --drain seconds. SIGINT or a second signal stops at once.",
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
        description="Like start, with debug logs (they hold what people say) and a restart whenever a Python file of this "
        "project changes. Conversations under way are taken up again by the new worker.",
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
        description="Nothing downloads by itself; this command does it when asked. Without a name: says what would need it.",
    )
    files.add_argument("names", nargs="*", metavar="ENGINE", help="engines whose files are wanted: whisper, chat, xtts")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all is well, 1 where a person must do something that stderr names in one line."""
    options = parser().parse_args(arguments)
    settings = Settings()
    try:
        if options.command == "download-files":
            print(Downloads(settings).run(options.names))
            return 0
        if options.command == "dev" and not options.no_reload:
            from agent.reload import run_reloading

            command = [sys.executable, str(Path(__file__).with_name("main.py")), "start", "--drain", "0"]
            return asyncio.run(run_reloading([*command, "--log-level", options.log_level]))
        setup_logging(options.log_level or settings.operations.log_level)
        if options.command == "console":
            return _console(settings, options)
        return _serve(settings, 0.0 if options.command == "dev" else options.drain)
    except (EngineError, LibraryError, KeysError, DownloadError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _serve(settings: Settings, drain: float) -> int:
    from agent.worker import Worker, WorkerError

    async def run() -> None:
        await Worker(settings, drain=drain).run()

    try:
        asyncio.run(run())
    except WorkerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _console(settings: Settings, options: argparse.Namespace) -> int:
    # Text mode must run where there is no audio library: only audio mode imports one.
    if options.list_devices or not options.text:
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
            print(error, file=sys.stderr)
            return 1
    from agent.console import talk_by_text

    return asyncio.run(talk_by_text(settings, personality=options.personality, session_id=options.session))


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
