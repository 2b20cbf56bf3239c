"""The doctor behind `--check`: looks at everything a start and a conversation depend on, and changes nothing.

Beside a running Voice Node it looks at that: its ports are then taken by itself, its livekit-server is asked, and its
public address is fetched as a browser would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from launching import doctor_machine, doctor_network, doctor_settings
from launching.finding import Finding
from launching.parts import Part
from settings import Settings


def doctor(settings: Settings, parts: Sequence[Part]) -> Iterator[Finding]:
    """Look, one thing after the other."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        doctor_machine.python,
        doctor_machine.gpu,
        doctor_machine.memory,
        lambda: doctor_machine.folder(settings.storage.data_dir),
        doctor_machine.clock,
        lambda: doctor_settings.engines(settings, parts),
        lambda: doctor_settings.models(settings),
        lambda: doctor_settings.keys(settings),
        lambda: doctor_settings.clouds(settings),
        lambda: doctor_settings.livekit_key(settings),
        lambda: doctor_settings.database(parts),
        lambda: doctor_settings.page(parts),
        lambda: doctor_network.openness(settings),
        lambda: doctor_network.ports(parts),
        lambda: doctor_network.livekit(settings, parts),
        lambda: doctor_network.certificate(settings),
        lambda: doctor_network.browsers(settings, parts),
    )
    for check in checks:
        yield from check()
