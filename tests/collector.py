"""An OpenTelemetry collector for tests: takes OTLP over HTTP and keeps the spans it decoded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Span:
    """One span as it was sent; times in seconds."""

    name: str
    trace: bytes
    id: bytes
    parent: bytes
    start: float
    end: float
    attributes: dict[str, Any]
    events: list[str]
    scope: str
    service: str


@dataclass
class Collector:
    """What has arrived."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def turns(self) -> list[Span]:
        """The roots."""
        return [span for span in self.spans if not span.parent]

    def below(self, root: Span) -> list[Span]:
        """A root's children in the order of time."""
        return sorted((s for s in self.spans if s.parent == root.id), key=lambda span: (span.start, span.end))

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """Decode a request."""
        request = ExportTraceServiceRequest.FromString(body)
        self.paths.append(path)
        self.headers.append(headers)
        self.bodies.append(body)
        for resource in request.resource_spans:
            named = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Span(
                            span.name,
                            span.trace_id,
                            span.span_id,
                            span.parent_span_id,
                            span.start_time_unix_nano / 1e9,
                            span.end_time_unix_nano / 1e9,
                            {pair.key: _value(pair.value) for pair in span.attributes},
                            [event.name for event in span.events],
                            scope.scope.name,
                            str(named.get("service.name")),
                        )
                    )

    def until(self, true: Callable[[], bool], patience: float = 30.0) -> None:
        """Wait for something to be true of what arrived; blocks."""
        deadline = time.monotonic() + patience
        while not true():
            assert time.monotonic() < deadline, f"arrived: {self.spans}"
            time.sleep(0.05)


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


@contextmanager
def collecting(*, status: int = 200, hangs: float = 0.0) -> Iterator[Collector]:
    """A collector on a free port.

    Args:
        status: What it answers.
        hangs: Seconds it waits before it does.
    """
    collector = Collector()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            over.wait(hangs)
            collector.take(self.path, dict(self.headers), body)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield collector
    finally:
        over.set()
        server.shutdown()
        server.server_close()
