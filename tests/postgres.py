"""A throwaway PostgreSQL server for tests: its files in a folder of its own, reached over a Unix socket only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STARTED_WITHIN = 60.0


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    binaries: Path
    folder: Path
    run_as: dict[str, Any]

    def new_database(self) -> str:
        """Make an empty database and give its address."""
        name = f"test_{uuid.uuid4().hex}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return f"postgresql+asyncpg://voice@/{name}?host={self.folder}"

    def sql(self, database: str, statement: str) -> str:
        """Run a statement through psql and give what it prints."""
        psql = [str(self.binaries / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        where = ["-h", str(self.folder), "-U", "voice", "-d", database, "-c", statement]
        return subprocess.run(psql + where, check=True, capture_output=True, text=True, **self.run_as).stdout.strip()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server, and stop it afterwards."""
    binaries = _binaries()
    # a short path: a Unix socket's may have 107 characters only
    folder = Path(tempfile.mkdtemp(prefix="vn-pg-", dir="/tmp"))
    run_as: dict[str, Any] = {"cwd": "/"}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        run_as |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    try:
        subprocess.run(
            [str(binaries / "initdb"), "-D", str(data), "-U", "voice", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            **run_as,
        )
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "full_page_writes": "off",
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [str(binaries / "postgres"), "-D", str(data), *flags], stdout=log, stderr=log, **run_as
            )
        try:
            postgres = Postgres(binaries, folder, run_as)
            _wait(server, postgres)
            yield postgres
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nothing here is worth a last checkpoint
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: subprocess.Popen[bytes], postgres: Postgres) -> None:
    give_up = time.monotonic() + STARTED_WITHIN
    while True:
        try:
            postgres.sql("postgres", "SELECT 1")
            return
        except subprocess.CalledProcessError as error:
            if server.poll() is not None or time.monotonic() > give_up:
                log = (postgres.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start:\n{log}") from error
            time.sleep(0.05)


def _binaries() -> Path:
    """The folder of the newest PostgreSQL installed; Debian keeps its programs off the PATH."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name)
    )
    found = shutil.which("initdb")
    if installed:
        return installed[-1].parent
    if found:
        return Path(found).resolve().parent
    raise RuntimeError("the tests need a PostgreSQL server: make test-setup installs it (Debian package postgresql)")
