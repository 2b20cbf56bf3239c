"""Runs one engine service: `python -m services stt|chat|tts`."""

from __future__ import annotations

import argparse
import sys

from fastapi import FastAPI
from pydantic import ValidationError

from engines.select import choose_one
from engines.types import EngineError
from services.server import serve
from settings import Settings


def _app(settings: Settings, kind: str) -> tuple[FastAPI, tuple[str, ...]]:
    """The app of a service and the lines about its engine.

    Raises:
        EngineNotConfigured: The settings name no engine that it can run.
    """
    # Only what the one service needs is loaded.
    match kind:
        case "stt":
            from services import stt

            heard = choose_one(settings, "stt", "service")
            return stt.create(settings, heard.engine), heard.why
        case "chat":
            from services import chat

            said = choose_one(settings, "chat", "service")
            return chat.create(settings, said.engine), said.why
        case _:
            from services import tts

            spoken = choose_one(settings, "tts", "service")
            return tts.create(settings, spoken.engine), spoken.why


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m services",
        description="Run one engine service of Voice Node. Settings come from the environment and .env.",
    )
    parser.add_argument("service", choices=("stt", "chat", "tts"), help="speech to text, chat, or text to speech")
    parser.add_argument("--host", help="address to listen on (default: HOST, else 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, help="port, 0 for any free one (default: STT_PORT 8001, CHAT_PORT 8002, TTS_PORT 8003)"
    )
    options = parser.parse_args(arguments)
    try:
        settings = Settings()
        app, why = _app(settings, options.service)
    except ValidationError as error:
        for problem in error.errors():
            print(f"{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}", file=sys.stderr)
        return 1
    except EngineError as error:
        print(error.message, file=sys.stderr)
        return 1
    for line in why:
        print(line, file=sys.stderr, flush=True)
    port = options.port
    if port is None:
        port = getattr(settings.network, f"{options.service}_port")
    return serve(
        app,
        options.host or settings.network.host,
        port,
        settings.operations.log_level,
        setting=f"{options.service.upper()}_PORT",
    )


if __name__ == "__main__":
    raise SystemExit(main())
