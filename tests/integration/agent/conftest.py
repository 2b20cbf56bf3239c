"""One livekit-server, one token endpoint and one worker for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.agent.worker_process import AgentProcess, running_agent, token_page
from tests.livekit_server import LiveKitServer, running_livekit_server


@pytest.fixture(scope="module")
def server() -> Iterator[LiveKitServer]:
    with running_livekit_server() as running:
        yield running


@pytest.fixture(scope="module")
def page(server: LiveKitServer) -> Iterator[str]:
    with token_page(server) as address:
        yield address


@pytest.fixture(scope="module")
def agent(server: LiveKitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    with running_agent(server, tmp_path_factory.mktemp("agent")) as running:
        yield running
