"""A command's process ends without a last look through all that it imported, and all that was to be done is done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CIRCLES = """
import gc

from compose_vlp.cli import main

class Circle:
    def __del__(self):
        print("found at the end")

circle = Circle()
circle.itself = circle
gc.disable()  # until the end
del circle
main(["--version"])
"""
BUSY = """
import atexit, sys, threading, time
from compose_vlp.ending import end_with

def slow():
    time.sleep(0.2)
    print("a thread is done")

def run():
    atexit.register(print, "a handler has run")
    threading.Thread(target=slow).start()
    print("x" * 100_000)
    if sys.argv[1] == "raises":
        raise ValueError("of the program")
    return 3

end_with(run)
"""


def test_circles_are_not_searched_for_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", CIRCLES], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("compose-vlp ")
    assert "found at the end" not in done.stdout


@pytest.mark.parametrize(("how", "code"), [("returns", 3), ("raises", 1)])
def test_threads_and_handlers_end_first_and_all_is_written(how: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", BUSY, how], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.splitlines() == ["x" * 100_000, "a thread is done", "a handler has run"]
    assert ("ValueError: of the program" in done.stderr) == (how == "raises")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_what_cannot_be_written_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", BUSY, "returns"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode not in (0, 3)
    assert "No space left on device" in done.stderr
