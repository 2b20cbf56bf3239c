"""Chat over the completions protocol that OpenAI began and many servers speak: Groq's, and any by its address."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from engines.cloud import Checkup, Vendor
from engines.stainless import Lazy, Sdk
from engines.types import Capacity, EngineInfo, Health, Message


class CompletionsChat:
    """A chat model behind a client of `engines.stainless`.

    Args:
        vendor: Who it is, for messages.
        sdk: Its client.
        info: What it is; `model` is what is asked for, unless `pick_model` says another.
        length_field: How the protocol's dialect calls the longest reply.
    """

    def __init__(self, vendor: Vendor, sdk: Lazy, info: EngineInfo, length_field: str) -> None:
        self.info = info
        self._vendor = vendor
        self._sdk = sdk
        self._length_field = length_field
        self._held = 0
        self._checkup = Checkup(self._vendor, self._ask)

    @property
    def capacity(self) -> Capacity:
        """No limit that is known before it is met."""
        return Capacity(self._held, None)

    async def start(self) -> None:
        """Import the client, and ask whether the key and the model are good.

        Raises:
            EngineNotConfigured: They aren't; the message says which setting to change.
            EngineUnavailable: The server can't be reached.
        """
        await self._checkup.now()

    async def health(self) -> Health:
        """What the last call showed, or what the server says now."""
        return await self._checkup.health()

    async def aclose(self) -> None:
        """Close the connections, which ends replies under way."""
        await self._sdk.aclose()

    async def pick_model(self, sdk: Sdk) -> str:
        """The model to ask for."""
        return self.info.model

    async def look_up(self, sdk: Sdk) -> None:
        """Ask the server for the model, which tells whether address, key and model are good; costs nothing."""
        await sdk.client.models.retrieve(self.info.model)

    async def _ask(self) -> None:
        sdk = await self._sdk.get()
        try:
            await self.look_up(sdk)
        except sdk.failures as error:
            raise sdk.engine_error(error, self._vendor, f"model '{self.info.model}'") from error

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        conversation: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield the reply's text; see `ChatModel.reply`. Closing hangs up, which stops the server.

        `conversation` stays here: it may name a person.
        """
        sdk = await self._sdk.get()
        hints: dict[str, Any] = {self._length_field: max_tokens, "temperature": temperature}
        told = [{"role": message.role, "content": message.content} for message in messages]
        begun = finished = False
        self._held += 1
        try:
            model = await self.pick_model(sdk)
            stream = await sdk.client.chat.completions.create(
                model=model,
                messages=told,
                stream=True,
                **{name: value for name, value in hints.items() if value is not None},
            )
            async with stream:
                async for chunk in stream:
                    for choice in (chunk.choices or ())[:1]:
                        finished = finished or choice.finish_reason is not None
                        if choice.delta is not None and choice.delta.content:
                            begun = True
                            yield choice.delta.content
            if not finished:
                # A server that dies between two pieces may end its stream as if it were whole.
                raise self._checkup.failed(self._vendor.broke_off())
            self._checkup.served()
        except sdk.failures as error:
            if finished:
                return
            problem = sdk.engine_error(error, self._vendor, f"model '{self.info.model}'", begun=begun)
            raise self._checkup.failed(problem) from error
        finally:
            self._held -= 1
