"""The key and secret shared by livekit-server and all who talk to it: set by hand, or made once and kept.

They live in `DATA_DIR/livekit.keys`, one line `key: secret` as livekit-server's own key files have it, readable by the
owner only. The launcher, the token server and the agent all ask here, so each of them can be started alone.
"""

from __future__ import annotations

import logging
import os
import secrets
import string
import tempfile
from pathlib import Path

import yaml

from settings.tree import Settings

log = logging.getLogger("voice_node.settings")

SHORTEST_SECRET = 32
"""Characters a secret must have: shorter ones are unsafe for the HMAC that signs tokens."""

_LETTERS = string.ascii_letters + string.digits


class KeysError(ValueError):
    """The LiveKit key or secret cannot be used; the message names the fix."""


def keys_path(settings: Settings) -> Path:
    """Where the key and secret are kept when no one sets them."""
    return settings.storage.data_dir / "livekit.keys"


def livekit_keys(settings: Settings) -> tuple[str, str]:
    """The LiveKit API key and secret, made and kept on the first call.

    `LIVEKIT_API_KEY` and `LIVEKIT_API_SECRET` win over the kept file. Safe to call from several processes at once:
    all get the same pair.

    Returns:
        (key, secret).

    Raises:
        KeysError: One of the two variables is missing, the secret is too short, the file is damaged, or `LIVEKIT_URL`
            names a server of the user's own whose keys nobody told us.
    """
    key, secret = settings.livekit.livekit_api_key, settings.livekit.livekit_api_secret
    if key and secret:
        return _checked(key, secret, "LIVEKIT_API_SECRET")
    if key or secret:
        missing = "LIVEKIT_API_SECRET" if key else "LIVEKIT_API_KEY"
        raise KeysError(f"{missing} is not set: set both the LiveKit key and its secret, or neither")
    path = keys_path(settings)
    if not path.exists():
        if settings.livekit.livekit_url:
            raise KeysError(
                "LIVEKIT_URL names a server of your own: set its LIVEKIT_API_KEY and LIVEKIT_API_SECRET too"
            )
        _create(path)
    return _read(path)


def _create(path: Path) -> None:
    """Put a new pair at `path`, whole or not at all; a pair that another process put there first stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = "API" + "".join(secrets.choice(_LETTERS) for _ in range(12))
    secret = "s" + "".join(secrets.choice(_LETTERS) for _ in range(47))
    handle, name = tempfile.mkstemp(prefix=".livekit.keys.", dir=path.parent)  # mkstemp makes it 0600
    made = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{key}: {secret}\n")
        try:
            path.hardlink_to(made)  # unlike a rename this never replaces another process's pair
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            made.replace(path)
        log.info("livekit keys made", extra={"path": str(path)})
    finally:
        made.unlink(missing_ok=True)


def _read(path: Path) -> tuple[str, str]:
    if path.stat().st_mode & 0o077:
        log.warning("livekit keys were readable by others, now by the owner only", extra={"path": str(path)})
        path.chmod(0o600)
    try:
        pairs = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        pairs = None
    if not isinstance(pairs, dict) or not pairs:
        raise KeysError(f"{path} holds no line 'key: secret': delete it and a new pair is made")
    key, secret = next(iter(pairs.items()))
    return _checked(str(key), str(secret), str(path))


def _checked(key: str, secret: str, place: str) -> tuple[str, str]:
    if len(secret) < SHORTEST_SECRET:
        raise KeysError(f"the LiveKit secret in {place} is shorter than {SHORTEST_SECRET} characters: use a longer one")
    return key, secret
