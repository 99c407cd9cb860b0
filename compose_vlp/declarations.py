"""What can be declared as a kind: classes that are made from their settings, and promises that they can keep."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Mapping
from typing import Any, Final, Literal

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.kinds import Category, Kind, Traits
from compose_vlp.kind_reader import Settings
from compose_vlp.protocols import check_offers, check_runtime_arguments
from compose_vlp.readable import with_article

_METHODS: Final[Mapping[Category, tuple[str, ...]]] = {
    "component": ("forward",),
    "loss": ("forward",),
    "slot": ("forward",),
    "adapter": ("forward",),
    "tokenizer": ("encode", "decode", "vocab_size"),
    "source": ("__len__", "record"),
}
"""What the class of a kind has, beside its `Config`."""


def check_class(name: str, category: Category, implementation: Any) -> None:
    """Refuse what cannot be made from its settings, or lacks what is asked of it.

    Raises:
        UserError: naming what is missing.
    """
    if not name.isidentifier():
        raise UserError(f"{name!r} is no name: letters, digits and _")
    if category == "function":
        if isinstance(implementation, type) or not callable(implementation):
            raise UserError(f"{name}: a function is declared with `def`")
        return
    if not isinstance(implementation, type):
        raise UserError(f"{name}: {with_article(category)} is a class with `Config`, and this is no class")
    if category in ("component", "loss", "slot", "adapter") and not _is_module(implementation):
        raise UserError(
            f"{name}: {with_article(category)} is a class of `torch.nn.Module`: "
            f"class {implementation.__name__}(nn.Module)"
        )
    lacking = [method for method in _METHODS[category] if _inherited(implementation, method)]
    if lacking:
        raise UserError(
            f"{name}: the class of {with_article(category)} has {' and '.join(_METHODS[category])}; "
            f"there is no {lacking[0]}"
        )
    config = getattr(implementation, "Config", None)
    if not (isinstance(config, type) and issubclass(config, Settings)):
        raise UserError(
            f"{name}: the class has no `Config` of its settings",
            hints=["class Config(Settings): ..., with a typed field for each setting; `pass` where there is none"],
        )
    _check_constructor(name, category, implementation)


def _is_module(implementation: type) -> bool:
    """Is it a class of nn.Module? Where torch was never imported, nothing is."""
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(implementation, torch.nn.Module)


def _inherited(implementation: type, method: str) -> bool:
    """Does a class lack a method, or only have the one that says that there is none?"""
    torch = sys.modules.get("torch")
    empty = getattr(torch.nn.Module, method, None) if torch is not None and method == "forward" else None
    member = getattr(implementation, method, None)
    return member is None or member is empty or getattr(member, "__isabstractmethod__", False)


def _check_constructor(name: str, category: Category, implementation: type) -> None:
    given = ("Config", _PLACES[category][0]) if category in _PLACES else ("Config",)
    try:
        inspect.signature(implementation).bind(*given)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name}: `__init__` is called with {' and '.join(given)}, by place: {error}",
            hints=[f"def __init__(self, config: Config{_PLACES.get(category, ('', ''))[1]}) -> None: ..."],
        ) from None


_PLACES: Final[Mapping[Category, tuple[str, str]]] = {
    "slot": ("place", ", place: Place"),
    "adapter": ("sizes", ", sizes: MapSizes"),
}
"""What `__init__` is given beside the settings: a word for it, and how it is declared."""


def check_declaration(name: str, kind: Kind, implementation: Any) -> None:
    """Refuse promises that are none of those there are, and those of methods and settings that are not there.

    Raises:
        UserError: naming the promise and what it may be.
    """
    for field in dataclasses.fields(kind.traits):
        promise, annotation = getattr(kind.traits, field.name), _HINTS[field.name]
        choices = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
        if choices and promise not in choices:
            known = ", ".join(repr(choice) for choice in choices)
            raise UserError(
                f"{name}: no promise is {field.name}={promise!r}",
                hints=[*did_you_mean(str(promise), choices), f"{field.name} is one of {known}"],
            )
    if isinstance(implementation, type):
        check_offers(name, implementation, kind.traits.state)
    if kind.traits.layers and kind.traits.layers not in kind.settings:
        raise UserError(
            f"{name}: `layers` names {kind.traits.layers!r}, which is no setting of its Config",
            hints=did_you_mean(kind.traits.layers, kind.settings),
        )
    for setting in kind.traits.noise:
        if setting not in kind.settings:
            raise UserError(
                f"{name}: `noise` names {setting!r}, which is no setting of its Config",
                hints=did_you_mean(setting, kind.settings),
            )
    _check_auxiliary(name, kind, implementation)
    if kind.category == "loss" and kind.traits.selects != callable(getattr(implementation, "selects", None)):
        raise UserError(
            f"{name}: a loss whose terms are places in a text has a method `selects`, and is declared with selects=True"
        )
    if kind.traits.context == "indexed" and not callable(getattr(implementation, "keys_values", None)):
        raise UserError(f'{name}: what promises context="indexed" has a method `keys_values(context)`')
    if kind.category == "component":
        held = {
            "selects=True": kind.traits.selects,
            "chunks=True": kind.traits.chunks,
            "last_layer=True": kind.traits.last_layer,
            'context="indexed"': kind.traits.context == "indexed",
        }
        check_runtime_arguments(name, implementation.forward, [promise for promise, kept in held.items() if kept])


def _check_auxiliary(name: str, kind: Kind, implementation: Any) -> None:
    """Refuse auxiliary losses without a weight, and those that nobody could compute or would read."""
    for loss in kind.traits.auxiliary:
        if loss not in kind.settings or kind.settings[loss].annotation not in ("float", "int"):
            raise UserError(
                f"{name}: `auxiliary` names {loss!r}, and its Config has no number of this name",
                hints=[f"{loss}: float = Field(0.01, ge=0): its weight", *did_you_mean(loss, kind.settings)],
            )
    module = sys.modules.get("compose_vlp.auxiliary")
    gives = module is not None and isinstance(implementation, type) and issubclass(implementation, module.Auxiliary)
    if gives and not kind.traits.auxiliary:
        raise UserError(f"{name}: its class extends `Auxiliary`, and `auxiliary=(...)` names none of its losses")
    if kind.traits.auxiliary and not gives:
        hints = [
            "from compose_vlp.auxiliary import Auxiliary",
            f"class {_name_of(implementation)}(Auxiliary)",
        ]
        raise UserError(f"{name}: the class of what has auxiliary losses extends `Auxiliary`", hints=hints)
    if kind.traits.auxiliary and kind.traits.draws == "choice":
        raise UserError(f'{name}: what promises draws="choice" has no auxiliary losses: its choices may be handed in')


def _name_of(implementation: Any) -> str:
    return str(getattr(implementation, "__name__", implementation))


_HINTS: Final = typing.get_type_hints(Traits)
