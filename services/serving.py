"""Which engine serves now, for `/metrics`: the one that the next call tries first, and the others of its list."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from engines.failover import Line
from engines.types import Engine


class Serving(Collector):
    """`voice_node_engine_serving{kind, engine}`: 1 for the engine that serves, 0 for the others of its list.

    Args:
        registry: Where it is registered.
        engines: One of each kind that this process asks.
    """

    def __init__(self, registry: CollectorRegistry, *engines: Engine) -> None:
        self._engines = engines
        registry.register(self)

    def _empty(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "voice_node_engine_serving",
            "Whether the engine serves now, or another one of its list in its place",
            labels=("kind", "engine"),
        )

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The measure without its values."""
        yield self._empty()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The measure as it is now."""
        family = self._empty()
        for engine in self._engines:
            listed = engine.engines if isinstance(engine, Line) else (engine,)
            serving = engine.serving if isinstance(engine, Line) else engine
            for each in listed:
                family.add_metric((each.info.kind, each.info.name), float(each is serving))
        yield family
