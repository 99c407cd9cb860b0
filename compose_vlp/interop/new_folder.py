"""A folder that an export fills: there whole, or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compose_vlp.errors import UserError


@contextmanager
def new_folder(folder: Path, what: str) -> Iterator[Path]:
    """Give a folder beside it to fill, which becomes the folder once nothing has gone wrong.

    Raises:
        UserError: it is there and not empty, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        problem = "is there, and not empty" if folder.is_dir() else f"is a file; {what} fills a folder"
        raise UserError(f"{folder} {problem}", hints=(f"{folder.with_name(f'{folder.stem}_{what}')}",))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as aside:
            inside = Path(aside) / "whole"
            inside.mkdir()
            yield inside
            inside.replace(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
