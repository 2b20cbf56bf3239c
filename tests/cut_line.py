"""A TCP connection whose cable is pulled: the system drops what comes, and so acknowledges nothing."""

from __future__ import annotations

import ctypes
import socket
import struct

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""One instruction of the socket filter: keep 0 bytes."""


def cut(line: socket.socket) -> None:
    """Let nothing of what comes reach this end, not even its system; don't send on it until it is mended."""
    program = ctypes.create_string_buffer(_DROP_ALL)
    line.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))


def mend(line: socket.socket) -> None:
    """Let everything through again."""
    line.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
