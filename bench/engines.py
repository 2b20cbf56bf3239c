"""Measure the engines here: `python bench/engines.py chat`; full-size random weights where no model is given."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# Instead of this folder, which Python puts there for a script: this file has the engines' own name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench import engine_chat  # noqa: E402


def main() -> None:
    """Measure what is named, print tables, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["chat"], nargs="?", default="chat")
    parser.add_argument("--model", help="folder or Hugging Face name; a 125 M Llama of random weights where left out")
    parser.add_argument("--threads", type=int, default=2, help="threads of the processor [2]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--repeat", type=int, default=3, help="times that each is measured; the median counts [3]")
    parser.add_argument(
        "--own-time",
        action="store_true",
        help="count the process's own time, on a machine that others use; needs --threads 1 and a processor",
    )
    parser.add_argument("--json", type=Path, help="file for all figures")
    asked = parser.parse_args()
    figures = engine_chat.measure(asked.model, asked.threads, asked.device, asked.dtype, asked.repeat, asked.own_time)
    print(engine_chat.table(figures))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1), encoding="utf8")


if __name__ == "__main__":
    main()
