"""Memory that a step of training on the CPU gives up and takes again: kept by the process, and in large pages.

glibc maps every tensor above 32 MB anew and hands the end of its heap back, so that each step takes the same pages
from the system, 4 KiB at a time. torch's advice is to preload tcmalloc or jemalloc (`torch.backends.xeon.run_cpu`),
which have to be installed; glibc does the same when it is asked to.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import psutil

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""What `mallopt` is told (malloc.h): how much that is free is kept, and how many blocks are mapped."""
HUGEPAGE: Final = 14
"""`madvise`: large pages here."""
LARGE_PAGE: Final = 2 << 20
PAGES: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")
OVERCOMMIT: Final = Path("/proc/sys/vm/overcommit_memory")
STRICT: Final = "2"
"""The system promises no more memory than it has."""
RESERVED: Final = 0.9
"""Of the memory that is free, the addresses that get large pages; what nobody writes to takes none of it."""


class Choice(NamedTuple):
    """Is memory kept, and why, or why not?"""

    kept: bool
    reason: str


def explain(variables: Mapping[str, str] = os.environ) -> Choice:
    """Say whether `keep_memory` would keep memory in this process, and why."""
    if platform.libc_ver()[0] != "glibc":
        return Choice(False, "the C library is not glibc, and is left as it is")
    for name, value in variables.items():
        if value and (name.startswith("MALLOC_") or (name == "GLIBC_TUNABLES" and "malloc" in value)):
            return Choice(False, f"{name} tells the allocator what to do")
    if variables.get("LD_PRELOAD"):
        return Choice(False, "LD_PRELOAD may bring another allocator")
    refusal = _refuses_large_pages()
    pages = "large pages" if refusal is None else f"small pages ({refusal})"
    return Choice(True, f"each step takes it again, in {pages}")


@cache
def keep_memory() -> Choice:
    """Keep what this process frees, from now on; ask it before the first large tensor.

    Only for a process that is there to train: its memory stays at its peak until it ends.
    """
    choice = explain()
    if choice.kept:
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, -1)
        if _refuses_large_pages() is None:
            _make_large(libc, int(RESERVED * psutil.virtual_memory().available))
    return choice


def _refuses_large_pages() -> str | None:
    """Say why no addresses are set aside for them, None where they are."""
    import resource  # which not every system has

    if any(
        resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    ):
        return "addresses are limited, see `ulimit -v` and `-d`"
    if _read(OVERCOMMIT) == STRICT:
        return "vm.overcommit_memory is 2"
    if "[never]" in _read(PAGES, "[never]"):
        return "transparent_hugepage is `never`"
    return None


def _make_large(libc: ctypes.CDLL, size: int) -> None:
    """Let the heap grow by `size` bytes of addresses, and say that their pages are large ones."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.free.argtypes = (ctypes.c_void_p,)
    start = libc.malloc(size)
    if start is None:
        return
    first, behind = -(-start // LARGE_PAGE), (start + size) // LARGE_PAGE
    if behind > first:
        libc.madvise(first * LARGE_PAGE, (behind - first) * LARGE_PAGE, HUGEPAGE)
    libc.free(start)


def _read(setting: Path, otherwise: str = "") -> str:
    try:
        return setting.read_text(encoding="utf-8").strip()
    except OSError:
        return otherwise
