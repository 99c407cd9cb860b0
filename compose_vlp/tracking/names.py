"""Names and words in the form that MLflow takes."""

from __future__ import annotations

import re
from functools import lru_cache

_NAME_LENGTH = 250


@lru_cache(maxsize=4096)
def store_name(name: str) -> str:
    """A name that MLflow takes: letters, digits and `_-.: /`, at most 250, and no path that means another."""
    allowed = re.sub(r"[^\w\-.: /]", "_", name)[: _NAME_LENGTH - 1]
    path = "/".join(part for part in allowed.split("/") if part.strip("."))
    return f"_{path}" if path.startswith("..") else path or "unnamed"


def cut(value: str, length: int) -> str:
    """`value` in at most `length` characters; an ellipsis says that something was cut."""
    return value if len(value) <= length else f"{value[: length - 1]}…"
