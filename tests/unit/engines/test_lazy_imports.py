"""The base install has no torch: nothing may import it before an engine that computes is asked for."""

from __future__ import annotations

import subprocess
import sys


def test_the_catalog_and_what_is_above_it_import_without_torch() -> None:
    modules = "engines.catalog, engines.select, library, plugins, conversation, services, agent, compat_ws, launching"
    loaded = "sorted({'torch', 'torchaudio', 'transformers', 'TTS'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print({loaded})"], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
