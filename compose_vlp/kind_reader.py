"""Reading a kind off its class: settings, ports and results from annotations, and what cannot be a declaration."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from compose_vlp.errors import Span, UserError, did_you_mean
from compose_vlp.graph.kinds import (
    AuxiliaryLoss,
    Category,
    Compares,
    Kind,
    Like,
    Mark,
    Pattern,
    Port,
    Setting,
    Traits,
    When,
)
from compose_vlp.graph.signature import refusing, signature
from compose_vlp.graph.types import KINDS, Flow
from compose_vlp.protocols import RUNTIME_ARGUMENTS, check_offers, check_runtime_arguments
from compose_vlp.readable import with_article

DETACHED: Final = "detached"


class Settings(BaseModel):
    """Base of every kind's `Config`: frozen, and no key unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)


@dataclass(frozen=True)
class OfTokenizer:
    """Remark on a constant of `forward`: it is a token of the text's tokenizer, which has to know it."""


@dataclass(frozen=True)
class Beside:
    """Remark on a constant of `forward` that nothing reads where this other port gets nothing."""

    port: str


@dataclass(frozen=True)
class Mixing:
    """Remark on a constant of `forward` that, where it is given, makes rows depend on each other."""


def kind_of(
    name: str, category: Category, implementation: Any, traits: Traits, slot: str, find: Callable[[str], Kind]
) -> Kind:
    """Read the `Kind` of a decorated class or function; `find` gives those of inner parts, by name.

    Raises:
        UserError: where an annotation is missing or is none of those that ports may have.
    """
    config = getattr(implementation, "Config", None)
    ports: dict[str, Port] = {}
    returns: Pattern | dict[str, Pattern] = Pattern("Scalar")
    cached = False
    if category in ("component", "loss", "function"):
        forward = implementation if category == "function" else implementation.forward
        with placed(forward):
            ports, returns = _ports(name, forward)
        cached = "cache" in inspect.signature(forward).parameters
    flows = getattr(implementation, "flows", None)
    custom = getattr(implementation, "output", None)
    describe = getattr(implementation, "describe", None)
    return Kind(
        name=name,
        category=category,
        ports=ports,
        output=refusing(ports, custom or signature(ports, returns, flows, describe)),
        returns=returns if ports else None,
        settings=_settings(config) if config else {},
        config=config,
        traits=traits,
        parts=dict(getattr(implementation, "parts", {})),
        flows=flows,
        check=getattr(implementation, "check", None),
        check_batch=getattr(implementation, "check_batch", None),
        describe=describe,
        needs=getattr(implementation, "needs", None),
        tables=getattr(implementation, "tables", None),
        trainable=category == "component",
        cached=cached,
        implementation=implementation,
        doc=inspect.getdoc(implementation) or "",
        source=implementation.__module__,
        slot=slot,
        promises=_with_parts(traits, config, find) if config else None,
        own_losses=_own_losses(name, traits, config, find) if config else None,
    )


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


def _with_parts(traits: Traits, config: type[BaseModel], find: Callable[[str], Kind]) -> Callable[[Any], Traits] | None:
    """Combine a tower's promises with its parts': it promises nothing that one of them does not promise."""
    slots = [name for name, setting in config.model_fields.items() if _slot_of_field(setting)]

    def promises(settings: Any) -> Traits:
        parts = [_part(settings, name, find).traits for name in slots]
        still = all(part.draws == "none" for part in parts)
        return replace(
            traits,
            rows=traits.rows if all(part.rows == "independent" for part in parts) else "batch",
            state=next((part.state for part in parts if part.state != "none"), traits.state),
            draws=traits.draws if still else "noise",
            noise=traits.noise if still else (),
        )

    return promises if slots else None


def _own_losses(
    name: str, traits: Traits, config: type[BaseModel], find: Callable[[str], Kind]
) -> Callable[[Any], tuple[AuxiliaryLoss, ...]] | None:
    """List the auxiliary losses of a kind and of the parts in its slots, whose weights are not 0."""
    slots = [slot for slot, setting in config.model_fields.items() if _slot_of_field(setting)]

    def losses(settings: Any) -> tuple[AuxiliaryLoss, ...]:
        own = [
            AuxiliaryLoss(loss_name, name, loss_name, float(getattr(settings, loss_name)))
            for loss_name in traits.auxiliary
        ]
        inner = [
            replace(loss, weight_path=f"{slot}.{loss.weight_path}")
            for slot in slots
            if (kind := _part(settings, slot, find)).own_losses is not None
            for loss in kind.own_losses(getattr(settings, slot).settings)
        ]
        return tuple(loss for loss in (*own, *inner) if loss.weight)

    return losses if slots or traits.auxiliary else None


def _part(settings: Any, slot: str, find: Callable[[str], Kind]) -> Kind:
    """Find the kind that stands in a slot, with the promises that it makes for its settings."""
    part = getattr(settings, slot)
    return find(part.use).with_settings(part.settings)


def _slot_of_field(info: FieldInfo) -> str:
    extra = info.json_schema_extra
    return str(extra.get("slot", "")) if isinstance(extra, dict) else ""


def _ports(name: str, forward: Callable[..., Any]) -> tuple[dict[str, Port], Pattern | dict[str, Pattern]]:
    hints = typing.get_type_hints(forward, include_extras=True)
    ports = {}
    for argument in inspect.signature(forward).parameters.values():
        if argument.name == "self" or argument.name in RUNTIME_ARGUMENTS:
            continue
        if argument.name not in hints:
            raise UserError(f"{name}: argument {argument.name!r} of forward has no annotation, so it is no port")
        ports[argument.name] = _port(name, argument, hints[argument.name])
    if "return" not in hints:
        raise UserError(f"{name}: forward does not say what it returns")
    return ports, _result(name, hints["return"])


def _result(name: str, hint: Any) -> Pattern | dict[str, Pattern]:
    like = _marks(hint, Like)
    if like:
        return Pattern("Value", marks=like)
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        fields = typing.get_type_hints(hint, include_extras=True)
        return {field: _patterns(name, field, _alternatives(hint)[0])[0] for field, hint in fields.items()}
    return _patterns(name, "return", _alternatives(hint)[0])[0]  # of several, the type's hook says which


def _port(name: str, argument: inspect.Parameter, hint: Any) -> Port:
    several = False
    alternatives = [alternative for alternative in _alternatives(hint) if alternative is not type(None)]
    if len(alternatives) == 1 and typing.get_origin(alternatives[0]) in (list, tuple):
        several = True
        alternatives = list(_alternatives(typing.get_args(alternatives[0])[0]))
    bounded = next((a for a in alternatives if _plain(a) in CONSTANTS and a not in CONSTANTS), None)
    alternatives = [_plain(a) if _plain(a) in CONSTANTS else a for a in alternatives]
    literals = [a for a in alternatives if a in CONSTANTS or typing.get_origin(a) is Literal]
    choices = tuple(str(c) for a in literals if typing.get_origin(a) is Literal for c in typing.get_args(a))
    values = [a for a in alternatives if a not in literals]
    remarks = typing.get_args(bounded)[1:]
    extras = [x for a in values for x in (typing.get_args(a)[1:] if typing.get_origin(a) is typing.Annotated else ())]
    return Port(
        name=argument.name,
        accepts=tuple(p for a in values for p in _patterns(name, argument.name, a)),
        several=several,
        open=argument.kind is inspect.Parameter.VAR_KEYWORD,
        literal=bool(literals),
        literal_types=tuple(dict.fromkeys("str" if typing.get_origin(a) is Literal else a.__name__ for a in literals)),
        default=argument.default if argument.default is not inspect.Parameter.empty else ...,
        flow=next((x for x in extras if isinstance(x, Flow)), Flow.ALL),
        detached=DETACHED in extras,
        choices=choices,
        bounded=bounded,
        compares=next((x for x in extras if isinstance(x, Compares)), None),
        when=next((x for x in extras if isinstance(x, When)), None),
        token=any(isinstance(x, OfTokenizer) for x in typing.get_args(bounded)[1:]),
        beside=next((x.port for x in remarks if isinstance(x, Beside)), ""),
        mixes=any(isinstance(x, Mixing) for x in remarks),
    )


CONSTANTS: Final = (str, int, float, bool)


def _plain(hint: Any) -> Any:
    """Strip an annotation of its remarks."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _patterns(name: str, argument: str, hint: Any) -> tuple[Pattern, ...]:
    base, *extras = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
    kind = getattr(base, "kind", None)
    if kind not in KINDS and kind != "Value":
        raise UserError(
            f"{name}: {argument!r} is annotated {hint!r}",
            hints=["ports are annotated like Annotated[Sequence, 'rows tokens width']", f"kinds: {', '.join(KINDS)}"],
        )
    dims = next((x for x in extras if isinstance(x, str) and x != DETACHED), "")
    return (Pattern(kind, tuple(dims.split()), _marks(hint, Mark)),)


def _marks(hint: Any, kind: Any) -> tuple[Any, ...]:
    """List the remarks of an annotation that are of this kind."""
    extras = typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()
    return tuple(extra for extra in extras if isinstance(extra, kind))


def _settings(config: type[BaseModel]) -> dict[str, Setting]:
    settings = {}
    for name, info in config.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        where = extra.get("inferred")
        settings[name] = Setting(
            name=name,
            annotation=f"a kind of {extra['slot']}" if "slot" in extra else _readable(info.annotation),
            default=_default(info),
            description=info.description or "",
            inferred=where if isinstance(where, str) else None,
            free=bool(extra.get("free")),
            bounds={type(m).__name__.lower(): getattr(m, type(m).__name__.lower(), None) for m in info.metadata},
        )
    return settings


def _default(info: FieldInfo) -> Any:
    """Give the value where nothing is written; of a slot the name of its kind, which is not imported for that."""
    extra = info.json_schema_extra
    if isinstance(extra, dict) and _slot_of_field(info):
        return extra["kind"]
    return ... if info.is_required() else info.get_default(call_default_factory=True)


def _readable(annotation: Any) -> str:
    """Write a type as people do, without the remarks by which pydantic reads it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _readable(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join("None" if argument is type(None) else _readable(argument) for argument in arguments)
    if origin is None or origin is Literal:
        return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
    inner = ", ".join("..." if argument is ... else _readable(argument) for argument in arguments)
    return f"{getattr(origin, '__name__', origin)}[{inner}]"


@contextmanager
def placed(implementation: Any) -> Iterator[None]:
    """Give mistakes of a declaration its file and line: those of the class or function, where nothing is nearer."""
    try:
        yield
    except UserError as error:
        place = _place_of(implementation)
        if place is not None and all(problem.span is None for problem in error.problems):
            error.problems = tuple(dataclasses.replace(problem, span=place) for problem in error.problems)
        raise


def _place_of(implementation: Any) -> Span | None:
    """Locate where a class or function begins; None where no file has it (a notebook's cell has a file of its own)."""
    try:
        lines, number = inspect.getsourcelines(implementation)
    except (OSError, TypeError):
        return None
    heads = (place for place, line in enumerate(lines) if line.lstrip().startswith(("class ", "def ", "async def ")))
    place = next(heads, 0)
    line = lines[place].rstrip()
    start = len(line) - len(line.lstrip())
    return Span(file_of(implementation), number + place, start + 1, len(line) + 1)


def file_of(implementation: Any) -> str:
    """Give the file of a class or function, or else its module's name."""
    try:
        return inspect.getsourcefile(implementation) or implementation.__module__
    except TypeError:
        return str(implementation.__module__)
