"""Which process has a UDP port, as Linux tells it."""

from __future__ import annotations

import contextlib
from pathlib import Path


def port_owner(port: int) -> int | None:
    """Process id; None where nobody has the port, or it can't be known."""
    inodes = {
        fields[9]
        for table in ("udp", "udp6")
        for line in (Path("/proc/net") / table).read_text().splitlines()[1:]
        if int((fields := line.split())[1].rpartition(":")[2], 16) == port
    }
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if any(str(file.readlink()) in wanted for file in (process / "fd").iterdir()):
                    return int(process.name)
    return None
