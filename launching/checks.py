"""What has to be true before anything starts: the ports are free; and what is warned about: an open door."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from launching.holders import holder
from launching.parts import Part, Port
from settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
IN_USE = "in use"


def ports_in_use(parts: Sequence[Part]) -> str | None:
    """One line that names every port we can't have, who has it, and the variable that moves ours elsewhere.

    None where all are free.
    """
    taken = [(part, port, why) for part in parts for port in part.ports if (why := why_taken(port))]
    if not taken:
        return None
    ports = ", ".join(f"{port.number} ({part.name}, {port.variable})" for part, port, _ in taken)
    many = f"{'ports' if len(taken) > 1 else 'port'} {ports}: {taken[0][2]}"
    if taken[0][2] != IN_USE:
        return f"{many}. Set the variables named."
    holders = [holder(port) for _, port, why in taken if why == IN_USE]
    known = {str(one): one for one in holders if one is not None}
    if known and all(one is not None and one.ours for one in holders):
        return f"{many} by this Voice Node, which is running already. Stop it first (Ctrl-C in its terminal)."
    by = f" by {'; '.join(list(known)[:3])}" if known else ""
    return f"{many}{by}. Stop what uses them (another Voice Node?), or set the variables named."


def why_taken(port: Port) -> str | None:
    """Why a port can't be listened on; None if it can."""
    udp = port.protocol == "udp"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            port.host, port.number, type=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            if not udp:  # as servers do: connections that have just ended are no hindrance
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            if not udp:
                probe.listen(1)
    except socket.gaierror:
        return f"HOST={port.host} is not an address"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return IN_USE
        if error.errno == errno.EADDRNOTAVAIL:
            return f"HOST={port.host} is not an address of this machine"
        return os.strerror(error.errno or 0)
    return None


def open_to_others(settings: Settings) -> str | None:
    """The warning that is due where others can reach us without a key."""
    if settings.network.host in LOOPBACK or settings.network.api_keys:
        return None
    return f"HOST={settings.network.host} and no API_KEYS: everyone who reaches this machine can use it. Set API_KEYS."
