"""A command's process ends without a last look through all that it imported."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
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


def test_circles_are_not_searched_for_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("compose-vlp ")
    assert "found at the end" not in done.stdout
