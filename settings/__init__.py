"""One typed settings tree; see tree.py for every variable."""

from settings.tree import GROUPS, Settings, reachable

__all__ = ["GROUPS", "Settings", "reachable"]
