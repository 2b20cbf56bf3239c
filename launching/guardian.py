"""Ends what a launcher leaves behind: a small process that outlives it and knows its parts' process groups.

Run as a file with `python -I -S`, so that it starts at once and holds nothing but the standard library. It reads lines
`+GROUP` and `-GROUP`; the end of its input means that the launcher is gone, in whatever way. Whole groups are ended, so
that the workers of a part don't outlive it either.
"""

from __future__ import annotations

import os
import signal
import sys
import time

GRACE = 5.0
"""Seconds the parts get to end by themselves."""


def main() -> None:
    """Follow the launcher's groups until it is gone, then end those that are left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    end(groups)


def end(groups: set[int]) -> None:
    """SIGTERM to all groups, SIGKILL to those still there after the grace."""
    left = {group for group in groups if signalled(group, signal.SIGTERM)}
    limit = time.monotonic() + GRACE
    while left and time.monotonic() < limit:
        time.sleep(0.05)
        left = {group for group in left if signalled(group, 0)}
    for group in left:
        signalled(group, signal.SIGKILL)


def signalled(group: int, number: int) -> bool:
    """Send a signal to a process group; whether the group was still there."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
