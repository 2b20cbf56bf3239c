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


@dataclass
class Postgres:
    """A server, running or not."""

    binaries: Path
    folder: Path
    run_as: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

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

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "full_page_writes": "off",
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), *flags]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.run_as)
        give_up = time.monotonic() + STARTED_WITHIN
        while True:
            try:
                self.sql("postgres", "SELECT 1")
                return
            except subprocess.CalledProcessError as error:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    text = (self.folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start:\n{text}") from error
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop it at once: nothing here is worth a last checkpoint."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)
            self.process = None


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
    try:
        subprocess.run(
            [binaries / "initdb", "-D", folder / "data", "-U", "voice", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            **run_as,
        )
        postgres = Postgres(binaries, folder, run_as)
        try:
            postgres.start()
            yield postgres
        finally:
            postgres.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
