"""Every part's health in one answer, asked for at the same time, a second at most."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from library import LeaseHolder, Leases, LibraryError
from settings import Settings, reachable
from settings.tls import trust
from token_server.addresses import http_form
from token_server.admission import free_places

DEADLINE = 1.0

NEEDED = ("database", "livekit", "agent")
"""Parts without which nobody can talk on the page; the others serve other callers."""


class PartsHealth:
    """Asks every part how it is.

    Args:
        settings: Where the parts are.
        leases: Tells which agent workers are alive.
        announced: This process, which renews as the workers do.
    """

    def __init__(self, settings: Settings, leases: Leases, announced: LeaseHolder) -> None:
        host = reachable(settings.network.host)
        network = settings.network
        self._leases = leases
        self._announced = announced
        self._addresses = {
            "livekit": http_form(settings.livekit_url),
            "agent": f"http://{host}:{network.agent_port}/health",
            "stt": f"{settings.service_url('stt')}/health",
            "chat": f"{settings.service_url('chat')}/health",
            "tts": f"{settings.service_url('tts')}/health",
            "compat": f"{settings.scheme}://{host}:{network.compat_port}/health",
        }
        self._trust = trust(settings)
        # Straight there: the parts are near, and a proxy for the world outside would not know them.
        verify = self._trust.context() if self._trust else True
        self._client = httpx.AsyncClient(timeout=DEADLINE, trust_env=False, verify=verify)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def all(self) -> tuple[bool, dict[str, Any]]:
        """Whether the page can serve a conversation, and each part's state: `ok`, and `reason` where it isn't."""
        asked = [self._ask(address) for address in self._addresses.values()]
        database, *answers = await asyncio.gather(self.database(), *asked)
        parts = {"database": database, **dict(zip(self._addresses, answers, strict=True))}
        return all(parts[name]["ok"] for name in NEEDED), parts

    async def database(self) -> dict[str, Any]:
        """Whether the database answers and can be written, and what it says of the agent workers' places."""
        if self._announced.trouble:
            return {"ok": False, "reason": self._announced.trouble}
        try:
            async with asyncio.timeout(DEADLINE):
                free = free_places(await self._leases.holders())
        except TimeoutError:
            return {"ok": False, "reason": "the database doesn't answer"}
        except LibraryError as error:
            return {"ok": False, "reason": str(error)}
        unlimited = free == float("inf")
        return {"ok": True, "agent_workers": free is not None, "free_places": None if unlimited else free}

    async def _ask(self, address: str) -> dict[str, Any]:
        try:
            if self._trust:
                self._trust.context()  # takes up a certificate that was renewed
            # The whole answer within the deadline: a part that trickles is no healthier than one that is silent.
            async with asyncio.timeout(DEADLINE):
                answer = await self._client.get(address)
        except (httpx.HTTPError, OSError) as error:  # a TimeoutError is an OSError
            late = isinstance(error, httpx.TimeoutException | TimeoutError)
            return {"ok": False, "reason": f"{'it answers too late' if late else 'it is not running'} ({address})"}
        said = _said(answer)
        if answer.is_success:
            return {"ok": True, **said}
        return {"ok": False, "reason": f"it answers {answer.status_code}", **said}


def _said(answer: httpx.Response) -> dict[str, Any]:
    """What a part told about itself, without what would hide our own fields."""
    try:
        body = answer.json()
    except ValueError:
        return {}
    return {key: value for key, value in body.items() if key not in ("ok", "status")} if isinstance(body, dict) else {}
