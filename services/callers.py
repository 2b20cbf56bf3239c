"""Who is calling, for counting: a known key where keys are asked for, else the address.

Our own parts call each other on loopback all the time, several times a turn, and must never be refused for that. So a
caller on this machine isn't counted, unless a proxy here asks for somebody else and says so (`X-Forwarded-For`); the
address is then theirs. A proxy that says nothing makes everyone a caller of this machine, uncounted. Our own parts on
other machines send `SERVICE_API_KEY`, which isn't counted either.
"""

from __future__ import annotations

import hashlib
import ipaddress

from starlette.requests import HTTPConnection

from services.keys import key_of, known
from settings import Settings


def counted_caller(conn: HTTPConnection, settings: Settings) -> str | None:
    """A name for the caller under which calls are counted; None for our own parts.

    Keys are named by a digest, so that they stand nowhere else in memory.
    """
    network = settings.network
    key = key_of(conn)
    if key and known(key, [settings.engines.service_api_key]):
        return None
    address = counted_address(conn)
    if address is None:
        return None
    if key and known(key, (*network.api_keys, *network.admin_keys)):
        return f"key {hashlib.sha256(key.encode(errors='replace')).hexdigest()[:16]}"
    return address


def counted_address(conn: HTTPConnection) -> str | None:
    """The caller's address; None on this machine. Of IPv6 the network, since one caller has all addresses of it."""
    if conn.client is None:
        return None
    try:
        address = ipaddress.ip_address(conn.client.host)
    except ValueError:
        return conn.client.host
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback and "x-forwarded-for" not in conn.headers:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)
