"""The agent worker: registers with livekit-server, accepts rooms by places, runs their jobs, drains at its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from livekit.agents import AgentServer, JobExecutorType
from livekit.agents.utils.hw import get_cpu_monitor

from agent.health import health_page
from agent.job import entry
from agent.job_process import ENDS_WITHIN, prepare
from agent.places import Places, default_limit
from engines.select import Chosen, choose
from library import Library, LibraryError
from library.errors import DatabaseError
from library.leases import LeaseHolder
from services.http import bind
from settings import Settings
from settings.livekit_keys import livekit_keys

logger = logging.getLogger("voice_node.agent")

EXECUTOR = JobExecutorType.PROCESS
"""Where a room's job runs; chosen here and nowhere else.

Measured on 2 cores with the embedded engines, process against thread: from joining to the agent's track 0.46-0.52 s
and 0.46-0.53 s, to its first sound 0.58-0.67 s and 0.57-0.71 s, from the end of a question to the answer heard 0.39 s
either way, 13 % of a core each, 92 MB and about 14 MB a conversation. For that memory a job's crash, leak or busy
loop is its own, and jobs use more than one core."""

TELL_EVERY = 0.25
"""Seconds between looks at how many places are free, which the lease holder's next renewal tells the others."""


class WorkerError(Exception):
    """The worker can't run as it is set up; the message names the fix."""


class Worker:
    """One worker process. `run` returns when it was stopped.

    Args:
        settings: The settings tree; jobs read the same from their environment.
        drain: Seconds that conversations under way may go on after SIGTERM.
    """

    def __init__(self, settings: Settings, *, drain: float) -> None:
        self._settings = settings
        self._drain = drain
        self._stop = asyncio.Event()
        self._now = asyncio.Event()
        self._registered = asyncio.Event()

    async def run(self) -> None:
        """Serve rooms until SIGTERM (after draining), SIGINT or a second signal (at once).

        Raises:
            WorkerError: The health page's port is taken.
            KeysError: The LiveKit keys cannot be used.
            EngineNotConfigured: An engine that was asked for isn't configured.
            LibraryError: The database cannot be used.
        """
        chosen = choose(self._settings, "conversation")
        for line in chosen.why:
            logger.info(line)
        sock = self._bind()
        server = self._server()
        library = await Library.open(self._settings)
        holder = LeaseHolder(library, "agent", 0)
        places = self._places(server, chosen, holder)
        try:
            async with health_page(self._settings, sock, places, lambda: self._connected(server), holder):
                telling = asyncio.create_task(self._tell(server, holder, places), name="tell places")
                with self._signals():
                    await self._serve(server)
                await telling
        finally:
            self._stop.set()
            await holder.aclose()
            await library.aclose()

    # --- assembly ----------------------------------------------------------------------------------------

    def _server(self) -> AgentServer:
        settings = self._settings
        key, secret = livekit_keys(settings)
        return AgentServer(
            job_executor_type=EXECUTOR,
            # Places decide which rooms are accepted, exactly; the threshold's estimate would refuse the second of two
            # rooms that ask an idle worker in the same moment.
            load_threshold=float("inf"),
            num_idle_processes=1 if get_cpu_monitor().cpu_count() < 4 else 2,
            setup_fnc=prepare,
            initialize_process_timeout=30.0,
            # A job that can't store what was said yet may need that long; each of them ends itself in time.
            shutdown_process_timeout=ENDS_WITHIN,
            # livekit-server may be started later or restarted at any time: wait for it as long as it takes.
            max_retry=2**31,
            ws_url=settings.livekit_url,
            api_key=key,
            api_secret=secret,
            # Its own page of two lines; health_page serves AGENT_PORT.
            host="127.0.0.1",
            port=0,
            http_proxy=proxy_for(settings.livekit_url),
        )

    def _bind(self) -> socket.socket:
        network = self._settings.network
        try:
            return bind(network.host, network.agent_port)
        except OSError as error:
            raise WorkerError(
                f"can't listen on {network.host}:{network.agent_port} ({error.strerror or error}): stop the program "
                "that holds the port, or choose another one with AGENT_PORT"
            ) from None

    def _places(self, server: AgentServer, chosen: Chosen, holder: LeaseHolder) -> Places:
        limit = self._settings.conversations.max_conversations
        if not limit:
            engines = (chosen.stt, chosen.chat, chosen.tts)
            limit = default_limit(get_cpu_monitor().cpu_count(), [engine.capacity.limit for engine in engines])
        started = asyncio.Event()
        server.once("worker_started", started.set)
        server.on("worker_registered", self._on_registered)

        def running() -> list[str]:
            return [running.job.id for running in server.active_jobs] if started.is_set() else []

        async def tell() -> None:
            holder.limit = places.free
            with contextlib.suppress(LibraryError):  # what can't be told now is told by the next renewal
                await holder.renew()

        places = Places(limit, running, tell)
        server.load_fnc = places.load
        server.rtc_session(entry, on_request=places.answer)
        return places

    # --- running -----------------------------------------------------------------------------------------

    async def _serve(self, server: AgentServer) -> None:
        running = asyncio.create_task(server.run(), name="agent server")
        await self._until(running, self._stop)
        if not running.done() and self._drain and not self._now.is_set():
            draining = asyncio.create_task(server.drain(timeout=max(1, round(self._drain))), name="drain")
            await self._until(draining, self._now)
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
        self._stop.set()
        await server.aclose()
        await running

    def _connected(self, server: AgentServer) -> bool:
        # The framework tells when the worker has registered, but not when it has lost the connection since.
        return self._registered.is_set() and not server._connecting

    def _on_registered(self, worker_id: str, info: object) -> None:
        self._registered.set()
        logger.info("ready for rooms", extra={"worker": worker_id, "url": self._settings.livekit_url})

    async def _until(self, work: asyncio.Task[None], event: asyncio.Event) -> None:
        """Wait until the work is done or the event is set, whichever comes first."""
        waiting = asyncio.create_task(event.wait())
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def _tell(self, server: AgentServer, holder: LeaseHolder, places: Places) -> None:
        """Announce the free places while livekit-server can fill them; each job announces its own, held by itself."""
        announced = False
        while not self._stop.is_set():
            connected = self._connected(server)
            holder.limit = places.free if connected else 0
            if connected and not announced:
                announced = await self._announce(holder)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TELL_EVERY):
                    await self._stop.wait()
        holder.limit = 0

    async def _announce(self, holder: LeaseHolder) -> bool:
        """Put this worker on the list of those that have places."""
        try:
            await holder.start()
        except DatabaseError as error:
            logger.warning("the worker could not be announced: %s", error)
            return False
        return True

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def stop(at_once: bool) -> None:
            if at_once or self._stop.is_set():
                self._now.set()
            self._stop.set()

        loop.add_signal_handler(signal.SIGTERM, stop, False)
        loop.add_signal_handler(signal.SIGINT, stop, True)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            loop.remove_signal_handler(signal.SIGINT)


def proxy_for(url: str) -> str | None:
    """The HTTP proxy that the environment names for an address; none for this machine itself.

    LiveKit's worker would send even a loopback address through HTTPS_PROXY.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1" or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get("https" if parts.scheme == "wss" else "http")
