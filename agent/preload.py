"""Imported once by the process that job processes are forked from; nothing here may start a thread or a loop."""

from __future__ import annotations

from livekit import local_inference

import agent.job as job

__all__ = ["job"]

local_inference.init_vad()
