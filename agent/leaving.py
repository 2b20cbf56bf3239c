"""Why a room's job ends, and what it leaves behind in livekit-server.

LiveKit sends an agent into a room when the room is created, and never again. So a room that the agent
leaves for good is closed, for whoever comes next to find a new one.
"""

from __future__ import annotations

import logging

from livekit import api
from livekit.agents import JobContext
from livekit.protocol import models

logger = logging.getLogger("voice_node.agent")

LEFT, NOBODY, LOST, FAILED, ANOTHER = (
    "everybody left",
    "nobody came",
    "the conversation's lease was lost",
    "the conversation could not be started",
    "another conversation begins in this room",
)
"""Why a job ends of itself; any other end comes from outside (the worker stops, the room is gone)."""


async def leave(context: JobContext, why: str | None) -> None:
    """Put the room in order after the agent has left it.

    Args:
        context: The job's.
        why: One of the reasons above; None where the end came from outside, and the room stays as it is.
    """
    room = context.room.name
    try:
        if why == FAILED or (why in (LEFT, NOBODY) and not await _anybody(context, room)):
            await context.api.room.delete_room(api.DeleteRoomRequest(room=room))
        elif why == ANOTHER:
            again = api.CreateAgentDispatchRequest(room=room, metadata=context.job.metadata)
            await context.api.agent_dispatch.create_dispatch(again)
    except Exception as error:
        logger.warning("the room could not be put in order: %s", error, extra={"room": room})


async def _anybody(context: JobContext, room: str) -> bool:
    """Whether people are in the room by now."""
    found = await context.api.room.list_participants(api.ListParticipantsRequest(room=room))
    kinds = models.ParticipantInfo.Kind
    return any(one.kind in (kinds.STANDARD, kinds.SIP, kinds.CONNECTOR) for one in found.participants)
