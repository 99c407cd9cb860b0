"""The largest numbers that a run takes."""

from __future__ import annotations

from typing import Final

HIGHEST_SEED: Final = 2**32 - 1
"""Numpy's generators take no higher one; torch's get it with a process's number below it."""
MOST_WORKERS: Final = 1024
"""Processes that read ahead for one that trains: each is started at once, and machines have fewer cores."""
