"""Print a Makefile's commands and variables from the remarks beside them."""

import re
import sys
from pathlib import Path


def main(makefile: Path) -> None:
    """Print them in the order of the file."""
    text = makefile.read_text(encoding="utf-8")
    print("Commands:")
    for name, remark in re.findall(r"^([a-z-]+):.*?## (.+)$", text, re.MULTILINE):
        print(f"  make {name:<11} {remark}")
    print("\nVariables:")
    for name, default, remark in re.findall(r"^([A-Z_]+) \?= ?(.*?)# ?(.+)$", text, re.MULTILINE):
        print(f"  {name:<9} {remark}{f' [{default}]' if default else ''}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
