"""`/api/personalities` and `/api/voices`, for reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from engines.types import Voice
from library import Library, Personality
from services.http import ApiError


def catalog(opened: Callable[[], Library]) -> APIRouter:
    """The collections' paths.

    Lists leave out what only an editor needs (prompts); items carry everything.

    Args:
        opened: Gives the library, which is open while requests come in.
    """
    router = APIRouter(prefix="/api")

    @router.get("/personalities")
    async def personalities() -> dict[str, Any]:
        """Every personality, the default one first."""
        library = opened()
        found = await library.personalities.all()
        return {"personalities": [_short(one) for one in found], "default": library.personalities.default}

    @router.get("/personalities/{personality_id}")
    async def personality(personality_id: str) -> dict[str, Any]:
        """One personality, whole."""
        found = await opened().personalities.get(personality_id)
        if found is None:
            raise ApiError(404, "not_found", "There is no such personality; GET /api/personalities lists them.")
        return _short(found) | {"greeting": found.greeting, "patience": found.patience, "prompt": found.prompt}

    @router.get("/voices")
    async def voices() -> dict[str, Any]:
        """Every voice."""
        return {"voices": [_voice(one) for one in await opened().voices.all()]}

    @router.get("/voices/{voice_id}")
    async def voice(voice_id: str) -> dict[str, Any]:
        """One voice, whole."""
        found = await opened().voices.get(voice_id)
        if found is None:
            raise ApiError(404, "not_found", "There is no such voice; GET /api/voices lists them.")
        return _voice(found) | {"engines": dict(found.engines), "rate": found.rate, "pitch": found.pitch}

    return router


def _short(one: Personality) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "language": one.language,
        "voice": one.voice,
    }


def _voice(one: Voice) -> dict[str, Any]:
    # Where the recordings lie is the server's business; how many there are says whether it is a clone.
    return {"id": one.id, "name": one.name, "language": one.language, "samples": len(one.samples)}
