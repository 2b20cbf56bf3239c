"""What all parts have on /metrics: names, units, help, bounded labels; dashboard and alerts ask for nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from agent.health import worker_metrics
from agent.places import Places
from compat_ws import service as compat
from engines.select import choose
from services import chat, stt, tts
from services.certificate_metric import measure_certificate
from services.metrics import Metrics
from settings import Settings
from settings.tls import certificate
from token_server.app import build

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "voice-node.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))
SCRAPES = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))

UNITS = ("_seconds", "_bytes")
COUNTED = (
    "held", "limit", "open", "processes", "connected", "requests", "opened", "conversations", "refused", "replies",
    "interruptions", "errors", "failures", "lost", "queued", "writes", "traces", "watchdog", "redispatches", "speeches",
    "serving",
)  # fmt: skip
"""What a name without a unit ends with: things that are counted."""
LABELS = {
    "method", "route", "status", "stage", "transport", "reason", "code", "engine", "outcome", "what", "kind",
}  # fmt: skip
"""Labels with a few values each; a session, a user or a text is none of them."""
NOT_OURS = re.compile(r"^(process_|python_|livekit_|up$|ALERTS$)")


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, CollectorRegistry]]:
    """The registry of every part, with a certificate's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_DIR", str(tmp_path_factory.mktemp("data")))
        patch.setenv("TLS", "1")
        for kind, engine in {"STT": "pocketsphinx", "CHAT": "companion", "TTS": "espeak"}.items():
            patch.setenv(kind, engine)
        settings = Settings()
        engines = choose(settings, "conversation")
        apps = {
            "page": build(settings),
            "server": compat.create(settings, engines),
            "stt": stt.create(settings, engines.stt),
            "chat": chat.create(settings, engines.chat),
            "tts": tts.create(settings, engines.tts),
        }
        found = {name: app.state.metrics.registry for name, app in apps.items()}
        served = certificate(settings)
        assert served is not None
        measure_certificate(found["page"], served.cert)
        found["agent"] = Metrics().registry
        worker_metrics(found["agent"], Places(4, lambda: ()), lambda: True)
        yield found


def metrics(registries: dict[str, CollectorRegistry]) -> dict[str, Metric]:
    return {metric.name: metric for registry in registries.values() for metric in registry.collect()}


def test_every_metric_is_named_by_the_rules_and_described(registries: dict[str, CollectorRegistry]) -> None:
    ours = {name: each for name, each in metrics(registries).items() if not NOT_OURS.match(name)}
    assert len(ours) > 25
    for name, metric in ours.items():
        assert re.fullmatch(r"voice_node_[a-z_]+", name), name
        assert name.endswith(UNITS) or name.split("_")[-1] in COUNTED, f"{name} says no unit and no counted thing"
        assert len(metric.documentation) > 10, f"{name} has no help text"


def test_no_label_holds_a_session_a_user_or_a_text(registries: dict[str, CollectorRegistry]) -> None:
    for registry in registries.values():
        for collector in set(registry._collector_to_names):
            labels = set(getattr(collector, "_labelnames", ()))
            assert labels <= LABELS, f"{collector}: {labels - LABELS}"


def test_a_name_means_the_same_in_every_part(registries: dict[str, CollectorRegistry]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for registry in registries.values():
        for metric in registry.collect():
            assert seen.setdefault(metric.name, (metric.type, metric.documentation)) == (
                metric.type,
                metric.documentation,
            ), metric.name


def test_every_metric_is_explained_to_operators(registries: dict[str, CollectorRegistry]) -> None:
    told = (DEPLOY.parent / "docs" / "operating.md").read_text(encoding="utf-8")
    short = told.replace("`, `_limit`", "`, `voice_node_conversations_limit`, `voice_node_engine_calls_limit`")
    for name in metrics(registries):
        assert NOT_OURS.match(name) or f"`{name}" in short, f"docs/operating.md doesn't tell of {name}"


# --- dashboard and alerts -------------------------------------------------------------------------------------


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    """Of all panels and alerts."""
    return [each["expr"] for each in [*(target for panel in panels() for target in panel["targets"]), *rules()]]


def asked_for(expression: str) -> set[str]:
    """Names of metrics in a PromQL expression."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"(?<![\w:])[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w)(?!\s*\()", bare)
    return set(words) - {"and", "or", "unless", "bool"}


def test_metric_names_are_found_in_expressions() -> None:
    expression = 'histogram_quantile(0.9, sum by (le, part) (rate(a_bucket{x="y"}[5m]))) > 2e6 and b_total * 60'
    assert asked_for(expression) == {"a_bucket", "b_total"}


def test_dashboard_and_alerts_ask_for_metrics_that_there_are(registries: dict[str, CollectorRegistry]) -> None:
    there = set()
    for name, metric in metrics(registries).items():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(metric.type, ("",))
        there |= {name + suffix for suffix in suffixes}
    for expression in expressions():
        named = asked_for(expression)
        assert named, expression
        missing = {name for name in named if not NOT_OURS.match(name)} - there
        assert not missing, f"{expression}: no part has {missing}"


def test_labels_in_expressions_are_those_of_the_metrics() -> None:
    known = LABELS | {"le", "part", "job"}
    for expression in [target["expr"] for panel in panels() for target in panel["targets"]] + [
        r["expr"] for r in rules()
    ]:
        used = set(re.findall(r"([a-z_]+)\s*!?=~?\s*\"", expression))
        for group in re.findall(r"\bby\s*\(([^)]*)\)", expression):
            used |= {label.strip() for label in group.split(",")}
        assert used <= known, f"{expression}: {used - known}"


def test_every_panel_has_its_place_and_says_what_it_shows() -> None:
    assert DASHBOARD["uid"] == "voice-node"
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
    for panel in panels():
        assert panel["title"] and panel["description"]
        assert panel["targets"] and all(target["legendFormat"] for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"]["unit"] in {"none", "s", "bytes", "percentunit"}
        assert panel["datasource"]["uid"] == "${datasource}", "whoever imports it chooses the Prometheus"


def test_brackets_of_every_expression_match() -> None:
    for expression in [target["expr"] for panel in panels() for target in panel["targets"]] + [
        r["expr"] for r in rules()
    ]:
        depth = 0
        for letter in expression:
            depth += {"(": 1, ")": -1}.get(letter, 0)
            assert depth >= 0, expression
        assert depth == 0 and expression.count("{") == expression.count("}"), expression


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for wanted in ("PartDown", "SlowTurns", "CallersRefused", "WatchdogBites", "MemoryGrows", "CertificateEnds"):
        assert wanted in names
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"] and len(rule["annotations"]["description"]) > 20


def test_prometheus_reads_every_part_at_its_default_port() -> None:
    network = Settings().network
    asked = {
        target["labels"]["part"]: target["targets"][0]
        for scrape in SCRAPES["scrape_configs"]
        for target in scrape["static_configs"]
    }
    fields = type(network).model_fields
    ports = {"page": "page", "server": "compat", "stt": "stt", "chat": "chat", "tts": "tts", "agent": "agent"}
    assert asked == {part: f"127.0.0.1:{fields[f'{name}_port'].default}" for part, name in ports.items()}
    assert SCRAPES["rule_files"] == ["alerts.yml"]
