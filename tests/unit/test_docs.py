"""The pages to read agree with the program: links lead somewhere, variables exist, the page's own words are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from settings import GROUPS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

NOT_SETTINGS = {
    "EXTRAS",
    "ARGS",
    "ENV_FILE",
    "TEST_APT",
    "UPGRADE",
    "RECORD_AUDIO",  # Android's permission
    "KEY",
    "NAME",
    "PORT",
    "GET",
    "POST",
    "DELETE",
    "WS",
    "ERR_EMPTY_RESPONSE",  # a browser's
    "FAILED",
    "FAIL",
    "WARNING",
}
"""Words in capitals that name something else."""

OF_THE_OLD_NODE = (
    *("XTTS_MODEL_PATH", "ELEVENLABS_API_KEY", "CARTESIA_API_KEY", "GROQ_API_KEY", "HUGGINGFACE_API_KEY"),
    *("ENABLE_LOCAL_MODEL", "pip install -r requirements.txt", "cp .env.example .env"),
    *("python launcher.py --combined-logs", "python launcher.py --services server chat tts"),
    *("| 8000 |", "| 8001 |", "| 8002 |", "| 8003 |"),
    *("ws://localhost:8000/ws/{session_id}", "agentId", "userId", "agentName", "tts_stream", "tts_stream_end"),
    *("/transcribe", "/chat", "/chat/groq", "/tts/stream", "/cartesia", "/elevenlabs", "AudioSpeechDetector"),
)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made on the sites that show such pages."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name) if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_that_are_named_exist(page: Path) -> None:
    known = {name.upper() for group in GROUPS for name in group.model_fields}
    known |= {"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"}  # of OpenTelemetry
    quoted = re.findall(r"`([A-Z][A-Z_]{2,})(?:=[^`]*)?`", page.read_text(encoding="utf-8"))
    assert set(quoted) - known - NOT_SETTINGS == set()


def test_every_problem_that_the_page_shows_is_explained_in_its_own_words() -> None:
    source = (ROOT / "web" / "src" / "call" / "problems.ts").read_text(encoding="utf-8")
    words = source.partition("const WORDS")[2].partition("};")[0]
    titles = re.findall(r'^  "?[a-z-]+"?: \[\s*"([^"]+)"', words, re.MULTILINE)
    assert len(titles) > 10
    explained = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert [title for title in titles if f"| {title} |" not in explained] == []


def test_everything_of_the_old_node_has_its_counterpart() -> None:
    page = (ROOT / "docs" / "moving.md").read_text(encoding="utf-8")
    assert [word for word in OF_THE_OLD_NODE if word not in page] == []
