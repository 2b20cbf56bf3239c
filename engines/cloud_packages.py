"""The vendors' packages of the clouds whose keys are set, imported beforehand where many processes will want them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module

from settings import Settings

# By the setting that holds the key; parts that the packages import when first touched are named as well.
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "groq_api_key": ("groq.resources",),
    "chat_url": ("openai.resources.chat", "openai.resources.models"),
    "elevenlabs_api_key": ("elevenlabs.client", "elevenlabs.models.client"),
    "cartesia_api_key": ("cartesia.resources.tts", "cartesia.resources.voices"),
}


def import_configured(settings: Settings) -> None:
    """Import what the configured clouds need, 0.3 to 0.6 s of processor time each; starts no thread and no loop."""
    for setting, names in _PACKAGES.items():
        if getattr(settings.engines, setting):
            for name in names:
                # The engine itself says what is missing, when it is asked for.
                with suppress(ImportError):
                    import_module(name)
