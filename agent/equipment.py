"""What the process of a room's job works with: engines, the library, and the lease it holds."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from engines.select import Chosen
from library import Library
from library.leases import LeaseHolder

logger = logging.getLogger("voice_node.agent")


@dataclass(frozen=True, slots=True)
class Equipment:
    """Opened by a job while it connects, closed when it has ended."""

    engines: Chosen
    library: Library
    leases: LeaseHolder
