"""Where commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console


def out() -> Console:
    """For results. Made anew at each use, so that it follows redirection."""
    return Console(highlight=False, markup=False)


def err() -> Console:
    """For progress, notes and errors."""
    return Console(stderr=True, highlight=False, markup=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output, and nothing else there."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
