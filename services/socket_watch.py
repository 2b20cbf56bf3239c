"""Looks after one WebSocket while it is open: pings its client, and says when nobody is there any more."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from services.half_open import LOOK_EVERY, Liveness, Verdict

_UNACKED, _LAST_ACK = 24, 56
"""Where Linux's `struct tcp_info` has the segments that wait for an acknowledgement, and the milliseconds since the
last one came."""


class SocketWatch:
    """The looks at one socket; `services.half_open` decides.

    Args:
        loop: The socket's.
        line: Its transport's socket, as asked for acknowledgements; None where there is none.
        ping: Sends a ping.
        unread: Whether something waits to be read by the client.
        deaf: Whether we ourselves read nothing from it now.
        ended: Told `gone` or `not reading`, once.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        line: Any,
        *,
        ping: Callable[[], None],
        unread: Callable[[], bool],
        deaf: Callable[[], bool],
        ended: Callable[[Verdict], None],
    ) -> None:
        self._loop = loop
        self._line = line
        self._ping = ping
        self._unread = unread
        self._deaf = deaf
        self._ended = ended
        self._last = loop.time()
        self.client = Liveness()
        self._timer = loop.call_later(0, self._look)

    def stop(self) -> None:
        """Look no more; idempotent."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        since_last, self._last = now - self._last, now
        if self._deaf():
            self.client.not_listened_to()
        verdict = self.client.look(since_last, unread=self._unread(), unacknowledged=unacknowledged(self._line))
        if verdict in ("gone", "not reading"):
            self._ended(verdict)
            return
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)
        if verdict == "ping":
            self._ping()


def unacknowledged(line: Any) -> float | None:
    """Seconds for which the other side's system has acknowledged nothing of what waits for it; 0 where nothing does.

    None where this can't be known: another system than Linux, another line than TCP.
    """
    option = getattr(socket, "TCP_INFO", None)
    if line is None or option is None or line.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        info = line.getsockopt(socket.IPPROTO_TCP, option, 104)
    except OSError:
        return None
    if len(info) < _LAST_ACK + 4:
        return None
    (waiting,), (milliseconds,) = struct.unpack_from("=I", info, _UNACKED), struct.unpack_from("=I", info, _LAST_ACK)
    return milliseconds / 1000 if waiting else 0.0
