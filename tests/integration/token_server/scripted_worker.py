"""A worker that speaks LiveKit's worker protocol and joins the rooms it is offered, without any agent in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from livekit import api, rtc
from websockets.asyncio.client import ClientConnection, connect

from tests.livekit_server import LiveKitServer


@dataclass
class ScriptedWorker:
    """Notes every job it is given; joins its room as an agent does, if told to."""

    joins: bool
    url: str
    jobs: list[api.Job] = field(default_factory=list)
    rooms: list[rtc.Room] = field(default_factory=list)

    async def serve(self, socket: ClientConnection) -> None:
        async for data in socket:
            assert isinstance(data, bytes)
            message = api.ServerMessage.FromString(data)
            match message.WhichOneof("message"):
                case "availability":
                    job = message.availability.job
                    answer = api.AvailabilityResponse(
                        job_id=job.id, available=True, participant_identity=f"agent-{job.id}"
                    )
                    await send(socket, api.WorkerMessage(availability=answer))
                case "assignment":
                    job = message.assignment.job
                    self.jobs.append(job)
                    running = api.UpdateJobStatus(job_id=job.id, status=api.JobStatus.JS_RUNNING)
                    await send(socket, api.WorkerMessage(update_job=running))
                    if self.joins:
                        room = rtc.Room()
                        await room.connect(self.url, message.assignment.token)
                        self.rooms.append(room)


async def send(socket: ClientConnection, message: api.WorkerMessage) -> None:
    await socket.send(message.SerializeToString())


@contextlib.asynccontextmanager
async def scripted_worker(server: LiveKitServer, *, joins: bool = True) -> AsyncIterator[ScriptedWorker]:
    """Register a worker without a name, as ours are, for as long as the block runs."""
    token = api.AccessToken(server.key, server.secret).with_grants(api.VideoGrants(agent=True)).to_jwt()
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(f"{server.url}/agent?protocol=1", additional_headers=headers) as socket:
        await send(
            socket,
            api.WorkerMessage(
                register=api.RegisterWorkerRequest(
                    type=api.JobType.JT_ROOM,
                    allowed_permissions=api.ParticipantPermission(
                        can_publish=True, can_subscribe=True, can_publish_data=True, agent=True
                    ),
                    version="1.0.0",
                )
            ),
        )
        first = await socket.recv(decode=False)
        assert api.ServerMessage.FromString(first).WhichOneof("message") == "register"
        worker = ScriptedWorker(joins, server.url)
        serving = asyncio.create_task(worker.serve(socket))
        try:
            yield worker
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await asyncio.gather(*(room.disconnect() for room in worker.rooms))
