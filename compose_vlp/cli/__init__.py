"""The command line: one command a file in `commands/`, each a thin layer over the Python API."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    from compose_vlp.cli.run import run

    # Searching all that is imported for circles, again and again while it is and once more at the end, took two of the
    # five seconds of a short training; the memory goes back with the process.
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))
