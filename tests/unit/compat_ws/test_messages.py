"""What a client may say on the compat WebSocket, and what is answered where it says something else."""

from __future__ import annotations

import json

import pytest

from compat_ws.messages import (
    Hello,
    Options,
    Typed,
    UsePersonality,
    UseVoice,
    WrongMessage,
    command,
    hello,
    options,
    text,
)

EVENTS = Options(events=True)


def test_the_first_message_names_agent_and_user() -> None:
    first = '{"agentId": "sage", "userId": " u1 ", "agentName": "Sage"}'
    assert hello(first) == Hello("sage", "u1", "Sage")


def test_names_may_be_empty_or_left_out_and_more_may_be_said() -> None:
    assert hello('{"agentId": "", "version": 3}') == Hello("", "", "")


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (b"\x00\x01", "sound comes after it"),
        ("hello", "valid JSON"),
        ("[1]", "JSON object"),
        ("{}", "agentId is missing"),
        ('{"type": "text", "text": "hi"}', "agentId is missing"),
        ('{"agentId": 7, "userId": "u", "agentName": "n"}', "strings"),
        ('{"agentId": "a", "userId": null, "agentName": "n"}', "strings"),
        ("[" * 100_000, "valid JSON"),
    ],
)
def test_another_first_message_is_refused_with_what_was_expected(first: str | bytes, why: str) -> None:
    with pytest.raises(WrongMessage, match=why) as refused:
        hello(first)
    assert '"agentId"' in str(refused.value)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, Options()),
        ({"api_key": "k"}, Options()),
        ({"audio": "binary"}, Options(binary=True)),
        ({"audio": "base64", "events": "0"}, Options()),
        ({"audio": "binary", "events": "1"}, Options(binary=True, events=True)),
        ({"events": "true"}, Options(events=True)),
    ],
)
def test_the_query_opts_in(query: dict[str, str], wanted: Options) -> None:
    assert options(query) == wanted


@pytest.mark.parametrize("query", [{"audio": "mp3"}, {"events": "maybe"}])
def test_an_unknown_option_is_named(query: dict[str, str]) -> None:
    with pytest.raises(WrongMessage, match=next(iter(query))):
        options(query)


@pytest.mark.parametrize(
    ("message", "meant"),
    [
        ({"type": "text", "text": " hello "}, Typed("hello")),
        ({"type": "personality", "id": "sage"}, UsePersonality("sage")),
        ({"type": "voice", "id": "nova"}, UseVoice("nova")),
    ],
)
def test_commands(message: dict[str, str], meant: object) -> None:
    assert command(json.dumps(message), EVENTS) == meant


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("not json", "valid JSON"),
        ('{"type": "dance"}', "'text', 'personality' or 'voice'"),
        ('{"type": ["text"]}', "'text', 'personality' or 'voice'"),
        ('{"type": "text"}', "needs a string 'text'"),
        ('{"type": "text", "text": "  "}', "needs a string 'text'"),
        ('{"type": "voice", "id": 4}', "needs a string 'id'"),
        (json.dumps({"type": "text", "text": "a" * 10_001}), "longer than 10000"),
    ],
)
def test_anything_else_is_refused_with_the_fix(message: str, why: str) -> None:
    with pytest.raises(WrongMessage, match=why):
        command(message, EVENTS)


def test_commands_need_the_opt_in() -> None:
    with pytest.raises(WrongMessage, match=r"\?events=1"):
        command('{"type": "text", "text": "hi"}', Options())


def test_our_messages_carry_their_type() -> None:
    assert json.loads(text("transcript", role="user", text="hi", final=True)) == {
        "type": "transcript",
        "role": "user",
        "text": "hi",
        "final": True,
    }
