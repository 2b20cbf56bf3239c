"""Vendors' errors as ours, and what is remembered of their health."""

from __future__ import annotations

import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from engines.cloud import KNOWN_FOR, Checkup, Vendor, code_in, retry_after_in
from engines.tts.elevenlabs_errors import status_of
from engines.types import EngineFull, EngineUnavailable
from tests.served import clean_environment

VENDOR = Vendor("Acme", "ACME_API_KEY", "ACME_MODEL", "ACME_URL", "acme.example/keys")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"code": "model_not_found", "message": "x"}}, "model_not_found"),
        ({"code": None, "type": "server_error"}, "server_error"),
        ({"detail": {"status": "quota_exceeded", "message": "x"}}, "quota_exceeded"),
        ({"detail": {"code": "voice_not_found", "type": "not_found", "status": "old"}}, "voice_not_found"),
        ({"error_code": "concurrency_limited", "title": "x", "message": "x"}, "concurrency_limited"),
        ({"error": "invalid_api_key", "code": 1008, "message": "x"}, "invalid_api_key"),
        ({"error": "You said: my secret is 42"}, ""),
        ({"error": {"code": 400, "message": "x"}}, ""),
        ("insufficient_quota", "insufficient_quota"),
        ("<html>Bad gateway</html>", ""),
        (None, ""),
        ([1], ""),
    ],
)
def test_only_a_short_code_of_an_answer_is_repeated(body: object, code: str) -> None:
    assert code_in(body) == code


@pytest.mark.parametrize(
    ("value", "wait"), [("7", 7.0), ("2.5", 2.5), ("-3", 0.0), ("soon", None), ("", None), (None, None)]
)
def test_how_long_to_wait_is_read_from_the_header(value: str | None, wait: float | None) -> None:
    assert retry_after_in({} if value is None else {"retry-after": value}) == wait


def test_how_long_to_wait_may_be_a_date() -> None:
    wait = retry_after_in({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert wait is not None and 50 < wait <= 60


def test_a_refusal_names_the_setting_and_where_keys_are_looked_after() -> None:
    message = VENDOR.refused(401, code="invalid_api_key").message
    assert message == (
        "Acme refuses the key; set ACME_API_KEY to a valid one, see acme.example/keys (it says 401, invalid_api_key)."
    )
    full = VENDOR.refused(429, retry_after=3.2)
    assert isinstance(full, EngineFull) and full.retry_after == 3.2


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("voice_not_found", 404),
        ("Invalid API key", 401),
        ("This request exceeds your quota of 10000. You have 12 credits remaining", 402),
        ("Too many concurrent requests for this voice", 429),
        ("A model with ID x does not exist", 404),
        ("something else", 500),
        ("", 500),
    ],
)
def test_what_elevenlabs_says_stands_for_a_status(said: str, status: int) -> None:
    assert status_of(said, 500) == status


@pytest.mark.parametrize(
    ("variables", "imported"),
    [
        ({}, set()),
        ({"GROQ_API_KEY": "k", "CARTESIA_API_KEY": "k"}, {"groq", "cartesia"}),
        ({"ELEVENLABS_API_KEY": "k", "CHAT_URL": "http://127.0.0.1:9/v1"}, {"elevenlabs", "openai"}),
    ],
)
def test_only_the_packages_of_configured_clouds_are_imported_beforehand(
    variables: dict[str, str], imported: set[str], tmp_path: Path
) -> None:
    program = (
        "import sys, threading; from settings import Settings; from engines.cloud_packages import import_configured; "
        "import_configured(Settings()); assert threading.active_count() == 1; "
        "print(*{'groq', 'openai', 'elevenlabs', 'cartesia'} & set(sys.modules))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert set(said.stdout.split()) == imported


async def test_health_is_asked_for_again_when_what_is_known_is_old() -> None:
    now, asked, failure = 0.0, 0, True

    async def ask() -> None:
        nonlocal asked
        asked += 1
        if failure:
            raise EngineUnavailable("away")

    checkup = Checkup(VENDOR, ask, lambda: now)
    assert (await checkup.health()).reason == "away"
    failure = False
    assert (await checkup.health()).reason == "away" and asked == 1
    now += KNOWN_FOR
    assert (await checkup.health()).ok and asked == 2
    checkup.failed(EngineUnavailable("gone"))
    assert (await checkup.health()).reason == "gone"
    checkup.served()
    assert (await checkup.health()).ok and asked == 2
