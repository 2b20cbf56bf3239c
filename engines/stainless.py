"""The clients of Groq and OpenAI, which one tool makes (Stainless) and which therefore fail alike.

They are imported when first needed, in a thread: an import takes 0.3 to 0.6 s of processor time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engines.cloud import Vendor, code_in, retry_after_in
from engines.types import EngineError


@dataclass(frozen=True, slots=True)
class Sdk:
    """A vendor's client, and the exceptions that calls and streams of it raise."""

    client: Any
    """`AsyncGroq` or `AsyncOpenAI`."""
    package: Any
    """The package it is from, with the exceptions' names."""
    http_error: type[Exception]
    """What its HTTP client raises in the middle of a stream, which the package doesn't wrap."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """All of them; `ValueError` is a stream whose lines are no JSON."""
        return (self.package.APIError, self.http_error, ValueError)

    def engine_error(self, error: Exception, vendor: Vendor, what: str = "", *, begun: bool = False) -> EngineError:
        """The engine error for one of `failures`.

        Args:
            what: The model that was asked for.
            begun: Whether a part of the answer had come.
        """
        package = self.package
        match error:
            case package.APIStatusError():
                wait = retry_after_in(error.response.headers)
                return vendor.refused(error.status_code, code=code_in(error.body), retry_after=wait, what=what)
            case package.APITimeoutError():
                return vendor.late()
            case package.APIConnectionError():
                return vendor.broke_off() if begun else vendor.unreachable(error)
            case package.APIError():
                # An error event in a stream that had begun with 200.
                return vendor.refused(500, code=code_in(error.body), what=what)
            case self.http_error():
                return vendor.late() if "Timeout" in type(error).__name__ else vendor.broke_off()
            case _:
                return vendor.unreadable()


class Lazy:
    """An `Sdk` that is made when first needed.

    Args:
        make: Imports the package and makes its client; runs in a thread.
    """

    def __init__(self, make: Callable[[], Sdk]) -> None:
        self._make = make
        self._making: asyncio.Task[Sdk] | None = None

    async def get(self) -> Sdk:
        """The one there is."""
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._make), name="import a vendor's client")
        return await asyncio.shield(self._making)

    async def aclose(self) -> None:
        """Close its connections."""
        if self._making is not None:
            await (await self.get()).client.close()
