"""The processes below this one on `/metrics`: recognizers of a part, jobs of the agent worker; number, memory, time.

A room's job is a process of its own and has no page; the worker tells of it here. Memory is the proportional set
size where the system has it (Linux): pages that forked processes share are not counted again for each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SIGNS = (("pocketsphinx_worker", "recognizer"), ("multiprocessing.forkserver", "room_job"))
"""What tells a child's kind in its command line; another one is of kind `other`."""
OTHER = "other"


class ChildProcesses(Collector):
    """Looks at the children whenever the metrics are read, which takes about a millisecond each."""

    def describe(self) -> Iterable[Metric]:
        """The names, without looking."""
        return self._families()

    def collect(self) -> Iterator[Metric]:
        """Number, memory and processor time by kind."""
        count, memory, cpu = self._families()
        sums: dict[str, list[float]] = {kind: [0.0, 0.0, 0.0] for kind in (*(kind for _, kind in SIGNS), OTHER)}
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):
                times = child.cpu_times()
                row = sums[_kind(child)]
                row[1] += _memory(child)
                row[2] += times.user + times.system + times.children_user + times.children_system
                row[0] += 1
        for kind, (number, size, seconds) in sums.items():
            count.add_metric([kind], number)
            memory.add_metric([kind], size)
            cpu.add_metric([kind], seconds)
        yield from (count, memory, cpu)

    def _families(self) -> tuple[GaugeMetricFamily, ...]:
        return (
            GaugeMetricFamily("voice_node_child_processes", "Processes below this one", labels=["kind"]),
            GaugeMetricFamily(
                "voice_node_child_memory_bytes", "Memory of the processes below this one", labels=["kind"]
            ),
            GaugeMetricFamily(  # not a counter: it falls when a process that is alive now has ended
                "voice_node_child_cpu_seconds",
                "Processor seconds of the processes below this one that are alive, and of their ended children",
                labels=["kind"],
            ),
        )


def _kind(child: psutil.Process) -> str:
    command = " ".join(child.cmdline())
    return next((kind for sign, kind in SIGNS if sign in command), OTHER)


def _memory(child: psutil.Process) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{child.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) * 1024
    return float(child.memory_info().rss)
