"""Set up everything `make run` or `make test` needs, from a bare machine: `python3 tools/setup.py run|test`.

A line is printed per step, with its time; what is there already and unchanged costs nothing. Variables: EXTRAS (extras
of pyproject.toml, `local` for torch, or `none`), TEST_APT (Debian packages of the tests).
"""

import os
import shutil
import sys

OLDEST = (3, 11)


def find_python() -> None:
    """Go on under a newer Python where this one is too old; written so that an old one can read it."""
    if sys.version_info >= OLDEST:
        return
    for minor in (13, 11, 12, 14):
        newer = shutil.which(f"python3.{minor}")
        if newer:
            os.execv(newer, [newer, *sys.argv])
    sys.exit(
        f"Voice Node needs Python 3.11 or newer, and {sys.executable} is {sys.version.split()[0]}."
        " Install python3.11 and python3.11-venv, or name another one: make run PYTHON=..."
    )


def main() -> int:
    """Do the steps in order; those that don't need each other at once."""
    import time

    import livekit_server
    import page
    import python_env
    from steps import StepFailed, leave, say, step, together
    from system import FOR_TESTS, install_packages, missing_packages

    purpose = sys.argv[1] if len(sys.argv) > 1 else "run"
    if purpose not in ("run", "test"):
        sys.exit("usage: python3 tools/setup.py run|test")
    begun = time.monotonic()
    print(f"Setting up ({purpose})", flush=True)
    try:
        packages = python_env.system_packages()
        if purpose == "test":
            packages += missing_packages(os.environ.get("TEST_APT", "").split() or FOR_TESTS)
        if packages:
            step(f"system packages: {' '.join(packages)}", lambda: install_packages(packages))
        extras = python_env.extras_wanted(os.environ.get("EXTRAS", "").replace(",", " ").split())
        sets = ["dev" if purpose == "test" else "base", *extras]
        python_env.prepare()
        together(lambda: python_env.install(sets), page.build, livekit_server.install)
    except (StepFailed, OSError) as failure:
        return leave(failure)
    except KeyboardInterrupt:
        return leave("interrupted; what is done is kept for the next time")
    say(f"Set up in {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    find_python()
    sys.exit(main())
