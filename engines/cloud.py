"""What all engines in somebody else's cloud share: their failures as named errors with the fix, and their health.

A vendor's own words are not repeated, since they may quote what was said or a key: only its short error code is.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from engines.types import EngineError, EngineFull, EngineLate, EngineNotConfigured, EngineUnavailable, Health

CONNECT_WITHIN = 5.0
"""Seconds for a connection to a cloud."""
ANSWER_WITHIN = 60.0
"""Seconds for each piece of an answer, where nobody above has a shorter deadline."""
START_WITHIN = 3.0
"""Seconds that an engine's start may wait for its vendor: a conversation may be waiting for the start."""
ASK_WITHIN = 0.7
"""Seconds that a question after a vendor's health may take."""
KNOWN_FOR = 30.0
"""Seconds for which a vendor's health is known from the last call or question."""

_CODE = re.compile(r"[a-z][a-z0-9_.-]{1,60}", re.IGNORECASE)
_CODE_FIELDS = ("code", "error_code", "status", "type", "error")


@dataclass(frozen=True, slots=True)
class Vendor:
    """Who is called, and the settings that the fix of a failure names."""

    name: str
    key: str
    """The variable that holds its key."""
    models: str
    """The variables that name its model and, for a voice, the voice."""
    url: str
    """The variable that holds its address."""
    account: str = ""
    """Where its keys and its credit are looked after."""

    def refused(self, status: int, *, code: str = "", retry_after: float | None = None, what: str = "") -> EngineError:
        """The engine error for a refusal.

        Args:
            status: HTTP status, or what a WebSocket's message has in its place.
            code: The vendor's short name for it.
            retry_after: Seconds that it wants to be left alone.
            what: The model or voice that was asked for.
        """
        said = f" (it says {status}{f', {code}' if code else ''})"
        where = f", see {self.account}" if self.account else ""
        match status:
            case 401:
                return EngineNotConfigured(f"{self.name} refuses the key; set {self.key} to a valid one{where}{said}.")
            case 402:
                return EngineNotConfigured(
                    f"{self.name} wants to be paid: the account has no credit left{where}{said}."
                )
            case 403:
                return EngineNotConfigured(
                    f"{self.name} doesn't let this key use {what or 'it'}: set {self.key} to one with the right, or "
                    f"change the account's plan{where}{said}."
                )
            case 404:
                return EngineNotConfigured(
                    f"{self.name} knows no {what or 'such thing'}; set {self.models} to what it has, and look at "
                    f"{self.url}{said}."
                )
            case 413:
                return EngineError(f"What was to be sent is more than {self.name} takes; make it shorter{said}.")
            case 429 | 498:
                again = f" in {retry_after:.0f} s" if retry_after is not None else " later"
                return EngineFull(
                    f"{self.name} lets this key do no more for now; try again{again}, or raise the account's limits"
                    f"{where}{said}.",
                    retry_after=retry_after,
                )
            case _ if status >= 500 or status == 408:
                return EngineUnavailable(
                    f"{self.name} has trouble of its own; try again later{said}.", retry_after=retry_after
                )
            case _:
                about = f" for {what}" if what else ""
                return EngineError(
                    f"{self.name} doesn't take the request{about}; check {self.models} and the language{said}."
                )

    def unreachable(self, error: BaseException) -> EngineUnavailable:
        """The engine error for a connection that couldn't be made."""
        return EngineUnavailable(
            f"{self.name} can't be reached ({type(error).__name__}); check the network, and {self.url}."
        )

    def late(self) -> EngineLate:
        """The engine error for an answer that didn't come."""
        return EngineLate(f"{self.name} did not answer in time; try again later.")

    def broke_off(self) -> EngineUnavailable:
        """The engine error for an answer that ended in the middle."""
        return EngineUnavailable(f"{self.name}'s answer broke off; try again.")

    def unreadable(self) -> EngineError:
        """The engine error for an answer in no known format."""
        return EngineError(f"{self.name} sent something that can't be read; look at {self.url}.")


def code_in(body: object) -> str:
    """The short name of an error in a vendor's error answer, empty where there is none."""
    if isinstance(body, str):
        return body if _CODE.fullmatch(body) else ""
    if not isinstance(body, Mapping):
        return ""
    for inner in ("error", "detail"):
        if isinstance(body.get(inner), Mapping) and (code := code_in(body[inner])):
            return code
    for field in _CODE_FIELDS:
        if isinstance(value := body.get(field), str) and _CODE.fullmatch(value):
            return value
    return ""


def retry_after_in(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer's `Retry-After` asks for, as a number or as a date; None without one."""
    value = headers.get("retry-after", "").strip()
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


class Checkup:
    """A vendor's health: what the last call showed, asked anew when that is long ago.

    Health is looked at every few seconds; each look at a cloud would cost its caller's allowance and a round trip.

    Args:
        vendor: Who it is, for messages.
        ask: Finds out whether the vendor serves this key, by a call that costs nothing.
        clock: Seconds that only grow.
    """

    def __init__(
        self, vendor: Vendor, ask: Callable[[], Awaitable[Any]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._vendor = vendor
        self._ask = ask
        self._clock = clock
        self._known: Health | None = None
        self._since = float("-inf")

    def served(self) -> None:
        """A call went well."""
        self._note(Health(True))

    def failed(self, error: EngineError) -> EngineError:
        """A call failed; gives the error back."""
        self._note(Health(False, error.message))
        return error

    def _note(self, health: Health) -> None:
        self._known, self._since = health, self._clock()

    async def now(self, within: float = START_WITHIN) -> None:
        """Ask the vendor, whatever is known.

        Raises:
            EngineError: It doesn't serve us, or says nothing for `within` seconds.
        """
        try:
            async with asyncio.timeout(within):
                await self._ask()
        except TimeoutError as error:
            raise self.failed(self._vendor.late()) from error
        except EngineError as error:
            self.failed(error)
            raise
        self.served()

    async def health(self) -> Health:
        """What is known, asked anew if it is old; never raises."""
        if self._known is not None and self._clock() - self._since < KNOWN_FOR:
            return self._known
        try:
            await self.now(ASK_WITHIN)
        except EngineError as error:
            return Health(False, error.message)
        return Health(True)
