"""Another program that writes a stack's database: it is in the middle of a write until it is told to finish it."""

from __future__ import annotations

import os
import sqlite3
import sys


def main(file: str) -> None:
    """Begin a write, say so, and finish it at the next line that comes."""
    database = sqlite3.connect(file, isolation_level=None, timeout=10)
    database.execute("BEGIN IMMEDIATE")
    row = (f"another-{os.getpid()}", "test", 0, 0, 0)
    database.execute('INSERT INTO holders (id, kind, held, "limit", at) VALUES (?, ?, ?, ?, ?)', row)
    print("writing", flush=True)
    sys.stdin.readline()
    database.execute("COMMIT")
    database.close()
    print("written", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
