"""Fail where a file made from others is out of date: `.env.example`, made from the settings tree."""

from __future__ import annotations

import sys
from pathlib import Path

from settings.__main__ import example

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """0 where every generated file is current."""
    if (ROOT / ".env.example").read_text(encoding="utf-8") == example():
        return 0
    print(".env.example is out of date: type '.venv/bin/python -m settings > .env.example'")
    return 1


if __name__ == "__main__":
    sys.exit(main())
