"""Any OpenAI-compatible chat server by its address (`CHAT_URL`): vLLM, Ollama, llama.cpp, a cloud."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from engines.chat.completions import CompletionsChat
from engines.cloud import ANSWER_WITHIN, CONNECT_WITHIN, Vendor
from engines.stainless import Lazy, Sdk
from engines.types import EngineInfo, EngineNotConfigured

NO_KEY = "none"
"""Sent where there is no key: the client insists on one, and servers that want none don't read it."""


class UrlChat(CompletionsChat):
    """Chat at an address.

    Args:
        url: Up to and with `/v1`.
        model: As the server names it; empty for the first one that it lists.
        api_key: Sent where not empty; the server then counts as paid.
    """

    def __init__(self, url: str, model: str = "", api_key: str = "") -> None:
        self._named = bool(model)
        # An address may carry a name and a password, which are nobody's business.
        host = urlsplit(url).netloc.rpartition("@")[2]
        vendor = Vendor(f"The chat server at {host}", "CHAT_URL_API_KEY", "CHAT_URL_MODEL", "CHAT_URL (it ends in /v1)")
        info = EngineInfo(
            "chat", "url", model or "the first one that the server lists", host, "that of the model", paid=bool(api_key)
        )
        super().__init__(vendor, _client(url, api_key), info, "max_tokens")

    async def pick_model(self, sdk: Sdk) -> str:
        """The model that is named, or the first that the server lists."""
        if not self._named:
            await self.look_up(sdk)
        return self.info.model

    async def look_up(self, sdk: Sdk) -> None:
        """List the server's models, the cheapest question that all such servers answer."""
        try:
            listed = [model.id for model in (await sdk.client.models.list()).data or ()]
        except sdk.package.NotFoundError:
            if not self._named:
                raise
            return  # It lists nothing; the first reply will tell.
        if self._named:
            return  # Some list fewer than they have.
        if not listed:
            raise EngineNotConfigured(f"{self._vendor.name} lists no model; load one there, or set CHAT_URL_MODEL.")
        self.info = replace(self.info, model=listed[0])
        self._named = True


def _client(url: str, api_key: str) -> Lazy:
    def make() -> Sdk:
        import httpx2
        import openai

        headers = {
            # What the environment says for OpenAI's own cloud is none of this server's business.
            "OpenAI-Organization": openai.omit,
            "OpenAI-Project": openai.omit,
        }
        made = openai.AsyncOpenAI(
            api_key=api_key or NO_KEY,
            base_url=url,
            timeout=httpx2.Timeout(ANSWER_WITHIN, connect=CONNECT_WITHIN, pool=None),
            max_retries=0,
            default_headers=headers,  # type: ignore[arg-type]  # the type leaves out what the code takes
        )
        # Parts of the package are imported when first touched: here, off the event loop.
        _ = (made.chat.completions, made.models)
        return Sdk(made, openai, httpx2.HTTPError)

    return Lazy(make)
