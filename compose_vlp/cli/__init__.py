"""The command line: one command a file in `commands/`, each a thin layer over the Python API."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    from compose_vlp.cli.run import run

    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))
