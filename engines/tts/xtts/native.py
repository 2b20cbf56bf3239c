"""Own kernels for the processor at hand: compiled once by the system's C++ compiler, kept, and loaded by ctypes.

They need x86-64 with AVX-512 VNNI (AMD since Zen 4, Intel servers since Cascade Lake) and a C++ compiler. Where one is
missing, `library` says why, and plain torch does the same work.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from engines.types import EngineUnavailable

_SOURCES = ("gpt.cpp", "vocoder.cpp")
_HEADERS = ("kernels.h",)
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC", "-Wall", "-Wno-uninitialized")
_SECONDS = 120.0


@dataclass(frozen=True)
class Library:
    """The compiled kernels, and whether the processor multiplies bfloat16 by itself."""

    functions: ctypes.CDLL
    bfloat16: bool


def processor() -> frozenset[str]:
    """The names of the processor's vector extensions, as Linux gives them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), ()))


@functools.cache
def library() -> Library:
    """The kernels, compiled where that hasn't been done before (a few seconds).

    Raises:
        EngineUnavailable: The processor or the system can't; the message says what is missing.
    """
    flags = processor()
    if platform.machine() != "x86_64" or not {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"} <= flags:
        raise EngineUnavailable("XTTS's own kernels need a processor with AVX-512 VNNI; plain torch is used instead.")
    bfloat16 = "avx512_bf16" in flags
    return Library(ctypes.CDLL(str(_built(compiler()))), bfloat16)


def compiler() -> str:
    """The C++ compiler's path.

    Raises:
        EngineUnavailable: There is none.
    """
    for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++"):
        if name and (found := shutil.which(name)):
            return found
    raise EngineUnavailable("XTTS's own kernels need a C++ compiler (apt install g++); plain torch is used instead.")


def _built(found: str) -> Path:
    here = Path(__file__).parent
    digest = hashlib.sha256(" ".join((found, *_FLAGS, *sorted(processor()))).encode())
    for name in (*_SOURCES, *_HEADERS):
        digest.update((here / name).read_bytes())
    kept = _folder() / f"xtts-{digest.hexdigest()[:16]}.so"
    if kept.is_file():
        return kept
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        made = Path(folder) / kept.name
        command = [found, *_FLAGS, *(str(here / name) for name in _SOURCES), "-o", str(made)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)  # noqa: S603
        except (subprocess.SubprocessError, OSError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            first = next((line for line in said if "error" in line), said[-1] if said else "no message")
            raise EngineUnavailable(f"XTTS's own kernels didn't compile ({first}); plain torch is used.") from error
        made.replace(kept)
    return kept


def _folder() -> Path:
    """Where compiled kernels are kept: the user's cache, else a folder of this process's user for temporary files."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    for folder in (Path(caches) / "voice-node", Path(tempfile.gettempdir()) / f"voice-node-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    raise EngineUnavailable("XTTS's own kernels found no folder to be kept in; set XDG_CACHE_HOME to one.")


def advise_huge(tensor: torch.Tensor) -> None:
    """Ask for large memory pages under a tensor that isn't filled yet: weights are then read a fifth faster."""
    page = 2 << 20
    begin = -(-tensor.data_ptr() // page) * page
    size = (tensor.data_ptr() + tensor.nbytes - begin) // page * page
    if size > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), 14)
