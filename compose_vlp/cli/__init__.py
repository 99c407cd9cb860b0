"""The command line: one command a file in `commands/`, each a thin layer over the Python API."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from compose_vlp.ending import end_with


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    from compose_vlp.cli.run import run

    gc.set_threshold(10_000)  # searching for circles while libraries are imported took a second of a short training
    end_with(lambda: run(sys.argv[1:] if arguments is None else list(arguments)))
