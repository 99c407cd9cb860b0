"""Settings that are handed on to a library as they are."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator


def plain(value: Any) -> Any:
    """Texts as what JSON reads in them (numbers, true, false, null), else as they are; in lists and mappings too."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value


Options = dict[str, Annotated[Any, BeforeValidator(plain)]]
"""Arguments by name, for the library to check."""
