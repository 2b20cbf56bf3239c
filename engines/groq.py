"""Groq's cloud: its client with the settings' key and address, for chat and for Whisper."""

from __future__ import annotations

from engines.cloud import ANSWER_WITHIN, CONNECT_WITHIN, Vendor
from engines.stainless import Lazy, Sdk


def vendor(models: str) -> Vendor:
    """Groq, where the variable `models` names the model."""
    return Vendor("Groq", "GROQ_API_KEY", models, "GROQ_URL", "console.groq.com")


def client(api_key: str, url: str) -> Lazy:
    """The vendor's own client; a failing call is tried no second time here, since another engine may serve."""

    def make() -> Sdk:
        import groq
        import httpx

        timeout = httpx.Timeout(ANSWER_WITHIN, connect=CONNECT_WITHIN, pool=None)
        made = groq.AsyncGroq(api_key=api_key, base_url=url, timeout=timeout, max_retries=0)
        # Parts of the package are imported when first touched: here, off the event loop.
        _ = (made.chat.completions, made.audio.transcriptions, made.models)
        return Sdk(made, groq, httpx.HTTPError)

    return Lazy(make)
