"""Imported once by the process that job processes are forked from; nothing here may start a thread or a loop."""

from __future__ import annotations

import os
from contextlib import suppress

import aiosqlite
from livekit import local_inference
from pydantic import ValidationError

from agent import job, job_process
from engines import chat, stt, tts
from engines.chat import companion
from engines.chat import service as chat_service
from engines.cloud_packages import import_configured
from engines.stt import pocketsphinx
from engines.stt import service as stt_service
from engines.tts import espeak
from engines.tts import service as tts_service
from settings import Settings

__all__ = [
    "aiosqlite",
    "chat",
    "chat_service",
    "companion",
    "espeak",
    "job",
    "job_process",
    "pocketsphinx",
    "stt",
    "stt_service",
    "tts",
    "tts_service",
]

WORKER = os.getppid()
"""Process id of the worker, which started the process that imports this."""

local_inference.init_vad()

# Settings that don't fit are the worker's to complain about.
with suppress(ValidationError):
    import_configured(Settings())
