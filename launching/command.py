"""The launcher's command line: `python launcher.py [--services NAME ...] [--combined-logs] [--check]`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Sequence

from pydantic import ValidationError

from launching.addresses import farewell, show_code
from launching.checks import open_to_others, ports_in_use
from launching.database import is_current, migrate
from launching.disk import unwritable, watch
from launching.doctor import doctor
from launching.engines import EnginesChosen, engines_chosen
from launching.output import Combined, LogFiles, Output, coloured
from launching.parts import DATABASE, NAMES, ROOT, Part, PartsError, chosen_parts
from launching.supervisor import Supervisor
from settings import Settings
from settings.livekit_keys import KeysError, livekit_keys
from settings.tls import Certificate, TlsError, Trust, certificate

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

MANY_FILES = 65_536

DESCRIPTION = "Starts the parts of Voice Node in dependency order, watches over them, and stops them on Ctrl-C."
EPILOG = f"Parts: {', '.join(NAMES)}. Settings: .env beside this file; .env.example explains each of them."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the launcher.

    Returns:
        0 where it was stopped by hand (or the doctor found nothing wrong), 1 where something failed, 2 where the
        command line or the settings are wrong.
    """
    parser = argparse.ArgumentParser(prog="launcher.py", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--services", nargs="+", metavar="NAME", default=(), help="start these parts only")
    parser.add_argument(
        "--combined-logs", action="store_true", help="all parts' logs here, instead of a file each in DATA_DIR/logs"
    )
    parser.add_argument("--check", action="store_true", help="say what is missing or in the way, and start nothing")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.chdir(ROOT)  # `.env` and relative paths are the project's, wherever this is called from
    try:
        settings = Settings()
        engines = engines_chosen(settings, options.services)
        parts = chosen_parts(settings, options.services, engines.through_services)
        if options.check:
            return _check(settings, parts)
        if trouble := unwritable(settings.storage.data_dir):
            return _refuse(trouble, status=1)
        key, secret = livekit_keys(settings)
        chosen = certificate(settings)
    except ValidationError as error:
        return _refuse("\n".join(map(_setting_in_words, error.errors())))
    except (PartsError, KeysError, TlsError) as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error.filename}: {error.strerror}. Keys are made there at the first start.", status=1)
    _open_many_files()
    in_use = ports_in_use(parts)
    if in_use:
        return _refuse(in_use, status=1)
    names = [part.name for part in parts]
    output: Output = (
        Combined(sys.stdout, names, colour=coloured(sys.stdout, os.environ))
        if options.combined_logs
        else LogFiles(sys.stdout, settings.storage.data_dir / "logs", names)
    )
    try:
        return asyncio.run(_launch(settings, parts, engines, _environment(settings, key, secret), output, chosen))
    finally:
        output.close()


def _setting_in_words(error: object) -> str:
    """A settings error as a line that names the variable."""
    assert isinstance(error, dict)
    return f"{'.'.join(map(str, error['loc'])).upper()}={error['input']}: {error['msg']}"


def _refuse(text: str, status: int = 2) -> int:
    print(f"launcher: {text}", file=sys.stderr)
    return status


def _open_many_files() -> None:
    """Let the parts hold as many connections as the system allows: the usual 1,024 are few for WebSockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and (soft < MANY_FILES or hard == resource.RLIM_INFINITY):
        most = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _check(settings: Settings, parts: Sequence[Part]) -> int:
    failed = False
    for finding in doctor(settings, parts):
        print(f"  {finding.state:<4}  {finding.text}")
        failed = failed or finding.state == "FAIL"
    return 1 if failed else 0


def _environment(settings: Settings, key: str, secret: str) -> dict[str, str]:
    """The one environment of all parts: ours, with the key and secret, which stand on no command line."""
    return {
        **os.environ,
        "LIVEKIT_API_KEY": key,
        "LIVEKIT_API_SECRET": secret,
        "LIVEKIT_KEYS": f"{key}: {secret}",  # livekit-server's own name for the pair
        "PYTHONUNBUFFERED": "1",
        "DATA_DIR": str(settings.storage.data_dir.absolute()),
    }


async def _launch(
    settings: Settings,
    parts: Sequence[Part],
    engines: EnginesChosen,
    env: dict[str, str],
    output: Output,
    chosen: Certificate | None,
) -> int:
    """Start the parts, stay until a signal comes or none is left, and end them."""
    stop, stop_now = asyncio.Event(), asyncio.Event()

    def stopped() -> None:
        (stop_now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, stopped)
    folder = settings.storage.data_dir
    for warning in filter(None, (open_to_others(settings), *engines.problems)):
        output.say(f"WARNING: {warning}")
    database = asyncio.create_task(_database(settings, parts, env, output))
    trust = Trust(chosen.cert) if chosen else None
    disk = asyncio.create_task(watch(folder, output.say), name="watch the disk")
    supervisor = Supervisor(parts, env, output, conditions={DATABASE: database}, trust=trust)
    try:
        start = asyncio.create_task(supervisor.start())
        await _first(stop.wait(), asyncio.shield(start), _unusable(database))
        if start.done() and not stop.is_set():
            for line in (*engines.lines, *_last_words(settings, parts, start.result(), chosen)):
                output.say(line)
            if "page" in (part.name for part in parts):
                show_code(settings, sys.stdout)
            await _first(stop.wait(), supervisor.all_gone())
        start.cancel()
    finally:
        disk.cancel()
        output.say("Stopping" if stop.is_set() else "Nothing is left running")
        stopping = asyncio.create_task(supervisor.stop())
        await _first(asyncio.shield(stopping), stop_now.wait())
        if not stopping.done():
            supervisor.kill()
        await stopping
    return 0 if await database and not supervisor.given_up else 1


async def _first(*waits: Awaitable[object]) -> None:
    """Wait until the first of several things has happened; the others are no longer waited for."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _unusable(database: asyncio.Task[bool]) -> None:
    """Return only when the database turns out not to be usable."""
    if await asyncio.shield(database):
        await asyncio.Event().wait()


async def _database(settings: Settings, parts: Sequence[Part], env: dict[str, str], output: Output) -> bool:
    """Whether the database is there for the parts that need it; made first where it isn't."""
    if not any(DATABASE in part.after for part in parts) or is_current(settings):
        return True
    problem = await migrate(env)
    if problem:
        output.say(f"launcher: the database can't be used: {problem}")
    return problem is None


def _last_words(settings: Settings, parts: Sequence[Part], healthy: bool, chosen: Certificate | None) -> list[str]:
    """What a person is told once everything is up."""
    lines = [] if healthy else ["Not everything is ready: see above, and 'python launcher.py --check'."]
    if any(part.name == "page" for part in parts):
        return [*lines, *farewell(settings, chosen)]
    return [*lines, "Ready. Ctrl-C stops everything."]
