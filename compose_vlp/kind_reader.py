"""Reading a kind off its class: settings, ports and results from annotations."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from compose_vlp.errors import Span, UserError
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
from compose_vlp.protocols import RUNTIME_ARGUMENTS

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
