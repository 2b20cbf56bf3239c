"""Entry of `python agent/main.py dev|start|console|download-files`; what the commands do is in agent/commands.py.

Python puts this file's folder first on its search path, where our modules would be found a second time
and under bare names; the project's folder takes its place. Job processes run this file too, under
another name: everything else is imported only where it is the program.
"""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != _HERE]
if str(_HERE.parent) not in sys.path:
    sys.path.insert(0, str(_HERE.parent))

if __name__ == "__main__":
    from agent.commands import main

    sys.exit(main())
