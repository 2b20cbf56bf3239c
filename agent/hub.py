"""A model's files from the Hugging Face Hub: what they are, how large, under which licence; fetched, resumed, verified.

Transfer, retries and resuming are huggingface_hub's; it comes with the local extra.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

SPARE = 1 << 28
"""Bytes that a disk must have left beside the files."""


class DownloadError(Exception):
    """What was asked for can't be downloaded; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a model, with its size in bytes; the checksum is there for large ones."""

    name: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is to fetch.

    Attributes:
        model: Its name, `owner/name`.
        commit: The version.
        license: As its owner names it; empty where they don't.
        gated: Whether its owner wants the licence accepted first.
        files: Those that are wanted.
    """

    model: str
    commit: str
    license: str
    gated: bool
    files: Sequence[File]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Hub:
    """The hub, under its usual address or HF_ENDPOINT's.

    Args:
        token: Of somebody who has accepted what gated models want; empty for nobody.
        endpoint: Another address.

    Raises:
        DownloadError: The package that talks to it isn't installed.
    """

    def __init__(self, token: str = "", endpoint: str | None = None) -> None:
        try:
            from huggingface_hub import HfApi
        except ImportError:
            raise DownloadError("Downloads need the local extra: make setup EXTRAS=local") from None
        self._api = HfApi(endpoint=endpoint, token=token or None)

    def offer(self, model: str, wanted: Sequence[str], unwanted: Sequence[str] = ()) -> Offer:
        """What a model's files are.

        Args:
            model: Its name.
            wanted: Patterns of names.
            unwanted: Patterns of names that are left out all the same.

        Raises:
            DownloadError: There is no such model, it can't be had with this token, or the hub doesn't answer.
        """
        with _named(model):
            info = self._api.model_info(model, files_metadata=True)
        files = [
            File(one.rfilename, one.size or 0, one.lfs.sha256 if one.lfs else None)
            for one in info.siblings or ()
            if _matches(one.rfilename, wanted) and not _matches(one.rfilename, unwanted)
        ]
        license_ = str(info.card_data.get("license") or "") if info.card_data else ""
        return Offer(model, str(info.sha), license_, bool(info.gated), files)

    def fetch(self, offer: Offer, folder: Path | None, say: Callable[[str], None]) -> Path:
        """Fetch the files with a bar of progress for each; what is there already stays, what broke off goes on.

        Args:
            offer: What to fetch.
            folder: Where to; None for the hub's own cache, where everything on this machine finds it by its name.
            say: Is told what is going on.

        Returns:
            The folder that holds them.

        Raises:
            DownloadError: The disk hasn't the room, the transfer broke off, or a file isn't what the hub says.
        """
        self._check_room(offer, folder)
        # In the cache a model is found by its branch, which is only noted where the branch is asked for.
        arguments: dict[str, Any] = {} if folder is None else {"local_dir": folder, "revision": offer.commit}
        with _named(offer.model):
            paths = [Path(self._api.hf_hub_download(offer.model, file.name, **arguments)) for file in offer.files]
        say("Checking the files ...")
        for file, fetched in zip(offer.files, paths, strict=True):
            _verify(file, fetched)
        return folder if folder is not None else _root(paths[0], offer.files[0].name)

    def _check_room(self, offer: Offer, folder: Path | None) -> None:
        from huggingface_hub import constants

        place = folder or Path(constants.HF_HUB_CACHE)
        there = 0
        if folder is not None:
            there = sum(file.size for file in offer.files if _size(folder / file.name) == file.size)
        existing = next(parent for parent in (place, *place.absolute().parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if free < offer.size - there + SPARE:
            raise DownloadError(
                f"{place} has {human(free)} left, and {offer.model} takes {human(offer.size - there)}: make room, or "
                "choose another place (HF_HOME for the cache, XTTS_MODEL_PATH for XTTS)."
            )


def human(size: float) -> str:
    """A number of bytes as people write it."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else -1


def _root(path: Path, name: str) -> Path:
    """The folder above a file that lies under `name` in it."""
    return path.parents[len(Path(name).parts) - 1]


def _verify(file: File, path: Path) -> None:
    whole = _size(path) == file.size
    if whole and file.sha256 is not None:
        with path.open("rb") as data:
            whole = hashlib.file_digest(data, "sha256").hexdigest() == file.sha256
    if not whole:
        path.unlink(missing_ok=True)
        raise DownloadError(f"{file.name} isn't what the hub says it is; it was removed. Run the same command again.")


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Say in a sentence what the hub, the network or the disk has against it."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise DownloadError(
            f"{model} is gated: accept its license at https://huggingface.co/{model}, and set HUGGINGFACE_API_KEY to a "
            "token of the same account."
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise DownloadError(
            f"Hugging Face has no model {model}, or none for this HUGGINGFACE_API_KEY: check its name and the token."
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise DownloadError(f"Hugging Face answered {status} for {model}; try again later.") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise DownloadError(
            f"Hugging Face can't be reached for {model}: is there a network, is HF_HUB_OFFLINE set?"
        ) from None
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError) or not error.strerror:
            raise _broken_off(model) from None
        raise DownloadError(f"{model} can't be stored: {error.strerror} ({error.filename}).") from None
    except Exception as error:
        # The hub's client has taken one HTTP package after another; each names its network errors by itself.
        if not isinstance(error, httpx.HTTPError) and not type(error).__module__.startswith(("httpx", "httpcore")):
            raise
        raise _broken_off(model) from None


def _broken_off(model: str) -> DownloadError:
    return DownloadError(
        f"The download of {model} broke off, or Hugging Face can't be reached. Run the same command again: it goes on "
        "where it stopped."
    )
