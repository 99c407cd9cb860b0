"""Memory that a process frees stays its own where it trains, and the allocator is left to who tells it something."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from compose_vlp import allocator, doctor

BLOCK = 64 << 20
"""Bytes: more than glibc ever keeps by itself."""
COUNT = f"""
import resource, sys
from compose_vlp.allocator import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
for number in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytes([1]) * {BLOCK}
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(not allocator.explain({}).kept, reason=allocator.explain({}).reason)


def pages_of_the_fourth_block(how: str) -> int:
    """How many pages a process takes from the system for a block, after three that it freed."""
    done = subprocess.run([sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@glibc
def test_a_block_that_was_freed_is_taken_from_what_the_process_has() -> None:
    assert pages_of_the_fourth_block("keep") < 16
    assert pages_of_the_fourth_block("leave") >= BLOCK // allocator.LARGE_PAGE  # however large the system's pages are


@pytest.mark.parametrize(
    "variable",
    [("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"), ("LD_PRELOAD", "libjemalloc.so.2")],
)
def test_who_tells_the_allocator_something_is_obeyed(variable: tuple[str, str]) -> None:
    choice = allocator.explain(dict([variable]))
    assert not choice.kept
    assert variable[0] in choice.reason or "glibc" in choice.reason


@glibc
@pytest.mark.parametrize(
    ("place", "setting", "reason"),
    [
        ("PAGES", "always [madvise] never", "in large pages"),
        ("PAGES", "always madvise [never]", "in small pages (transparent_hugepage is `never`)"),
        ("OVERCOMMIT", "2", "in small pages (vm.overcommit_memory is 2)"),
    ],
)
def test_the_reason_names_the_pages(
    place: str, setting: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"PAGES": "[always] madvise never", "OVERCOMMIT": "0", place: setting}.items():
        file = tmp_path / name
        file.write_text(text + "\n", encoding="utf-8")
        monkeypatch.setattr(allocator, name, file)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert reason in allocator.explain({}).reason


@glibc
def test_where_addresses_are_limited_none_are_set_aside() -> None:
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))\n"
        "from compose_vlp.allocator import explain; print(explain({}).reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", limited + COUNT, "keep"], capture_output=True, text=True, check=True)
    reason, pages = done.stdout.splitlines()
    assert "ulimit" in reason
    assert int(pages) < 16


def test_doctor_says_so() -> None:
    finding = next(finding for finding in doctor.examine(Path()) if finding.topic == "freed memory")
    choice = allocator.explain()
    assert (finding.found, finding.why) == ("kept" if choice.kept else "given back", choice.reason)
