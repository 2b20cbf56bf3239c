"""Under which addresses people find the page: what the launcher prints, and what the doctor tries."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import TextIO

import psutil

from launching.parts import EVERYWHERE, bracketed
from settings import Settings, reachable
from settings.tls import Certificate

INNER = ("lo", "docker", "br-", "veth", "virbr", "cni", "flannel", "podman")
"""How the names of interfaces begin that lead nowhere outside this machine."""


def page_addresses(settings: Settings) -> list[str]:
    """The page's addresses, the one to be opened first; from the second on for other machines."""
    network = settings.network
    tail = "" if (settings.scheme, network.page_port) in (("http", 80), ("https", 443)) else f":{network.page_port}"
    host = reachable(network.host)
    here = f"{settings.scheme}://{'localhost' if host == '127.0.0.1' else bracketed(host)}{tail}"
    if network.public_url:
        return [network.public_url]
    if network.host in (EVERYWHERE, "::"):
        return [here, *(f"{settings.scheme}://{address}{tail}" for address in outer_addresses())]
    return [here]


def outer_addresses() -> list[str]:
    """This machine's IPv4 addresses that others may reach, that of the default route first."""
    found = [
        one.address
        for name, addresses in psutil.net_if_addrs().items()
        if not name.startswith(INNER)
        for one in addresses
        if one.family is socket.AddressFamily.AF_INET and not ipaddress.ip_address(one.address).is_loopback
    ]
    main = _on_default_route()
    return sorted(found, key=lambda address: address != main)


def gives_microphone(address: str) -> bool:
    """Whether browsers give a page of this address the microphone."""
    return address.startswith("https://") or address.partition("://")[2].startswith(("localhost", "127.", "[::1]"))


def farewell(settings: Settings, chosen: Certificate | None) -> Iterator[str]:
    """What a person is told of the page once it is up."""
    first, *others = page_addresses(settings)
    yield f"Open {first} and talk. Ctrl-C stops everything."
    if others:
        yield f"From phones and other machines: {' or '.join(others[:3])}"
    insecure = [address for address in (first, *others) if not gives_microphone(address)]
    if insecure:
        yield f"Browsers give no microphone to {insecure[0]}: it takes https, 'make run TLS=1' (README, TLS)."
    if chosen is not None and chosen.authority is not None:
        yield (
            f"Browsers warn about a certificate made here until they trust {chosen.authority}."
            " One that all of them trust: TLS_CERT and TLS_KEY (README, TLS)."
        )


def show_code(settings: Settings, stream: TextIO) -> None:
    """On a terminal, the address for phones as a QR code; nothing where none would let a phone talk."""
    outside = [one for one in page_addresses(settings) if one.startswith("https://") and "//localhost" not in one]
    if outside and stream.isatty():
        import segno

        segno.make(outside[0], micro=False).terminal(stream, compact=True)


def _on_default_route() -> str:
    """The address from which this machine speaks to the world; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address: str = probe.getsockname()[0]
        return address
