"""Settings that are handed on to a library as they are."""

import json
from collections.abc import Collection, Mapping
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
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


Options = dict[str, Annotated[Any, BeforeValidator(plain)]]
"""Arguments by name, for the library to check."""


def loading(options: Any, names: Collection[str]) -> list[str]:
    """Those of `names` that stand anywhere in options, in mappings within mappings too."""
    if isinstance(options, list | tuple):
        return [name for value in options for name in loading(value, names)]
    if not isinstance(options, Mapping):
        return []
    return [
        match for name, value in options.items() for match in ([str(name)] if name in names else loading(value, names))
    ]


def without(options: Any, names: Collection[str]) -> Any:
    """Options without these names, in mappings within mappings too."""
    if isinstance(options, list | tuple):
        return [without(value, names) for value in options]
    if not isinstance(options, Mapping):
        return options
    return {name: without(value, names) for name, value in options.items() if name not in names}
