"""A fault in a room's job is ended, told in the room, and counted by its worker."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.e2e.room_client import RoomClient
from tests.integration.agent.worker_process import running_agent
from tests.livekit_server import LiveKitServer


@contextmanager
def chat_that_hangs() -> Iterator[str]:
    """A chat service that is well and answers no question until the block is left; gives its address."""
    over = threading.Event()

    class Chat(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"engine": {"model": "hanging"}, "capacity": {"held": 0, "limit": 4}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            over.wait()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    service = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{service.server_address[1]}"
    finally:
        over.set()
        service.shutdown()
        service.server_close()


async def test_an_engine_that_hangs_in_a_room_is_told_there_and_counted_by_the_worker(
    server: LiveKitServer, page: str, tmp_path: Path
) -> None:
    with (
        chat_that_hangs() as address,
        running_agent(server, tmp_path, CHAT="service", CHAT_SERVICE_URL=address, CHAT_FIRST_DEADLINE="1") as agent,
    ):
        assert 'voice_node_watchdog_total{what="engine_deadline"} 0.0' in agent.metrics()
        async with RoomClient(page, "hanging chat", personality="storyteller") as ann:
            await ann.agent()
            await ann.state("listening")
            await ann.type("hello")
            assert (await ann.error())["code"] == "unavailable"
            async with asyncio.timeout(20):
                # Nobody is told when a metric grows.
                while 'voice_node_watchdog_total{what="engine_deadline"} 1.0' not in agent.metrics():  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            assert "voice_node.watchdog" in agent.written()
