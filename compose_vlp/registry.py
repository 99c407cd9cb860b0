"""Declaring kinds of components, and finding them by name without importing what nobody asked for.

A kind is one class (or function) with annotations:

    @component("adapter", rows="independent", state="none", draws="none")
    class Adapter(nn.Module):
        class Config(Settings):
            hidden: int = Field(64, gt=0, description="width of the bottleneck")
            width: int = inferred()                      # from the dimension of the same name

        def forward(
            self, x: Annotated[Sequence, "rows tokens width", EACH]
        ) -> Annotated[Sequence, "rows tokens width"]: ...
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from compose_vlp.errors import Span, UserError, did_you_mean
from compose_vlp.graph.kinds import Category, Keys, Kind, Output, Pattern, Port, Setting, Traits
from compose_vlp.graph.signature import signature
from compose_vlp.graph.types import KINDS, Flow

EACH: Final = Flow.EACH
PAST: Final = Flow.PAST
ALL: Final = Flow.ALL
DETACHED: Final = "detached"
# Given by compiled programs, not by people; `tokenizer` is that of the text the call reads.
RUNTIME_ARGUMENTS: Final = frozenset({"self", "at", "cache", "kv", "rows", "tokenizer"})


@dataclass(frozen=True)
class Beside:
    """Remark on a constant of `forward` that nothing reads where this other port gets nothing."""

    port: str


class Settings(BaseModel):
    """Base of every kind's `Config`: frozen, and no key unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)


def inferred(source: str = "", description: str = "", *, free: bool = False) -> Any:
    """A setting that follows from the graph: from the dimension of its own name, or from `port.size`.

    Writing it in a blueprint is an assertion that is checked; where it is `free`, the port's size is only what stands
    where nothing is written (a text decoder takes its context's width). One that may follow from nothing (the width of
    a context that is not given) is annotated `int | None`; any other that follows from nothing is a mistake.
    """
    return Field(default=None, description=description, json_schema_extra={"inferred": source, "free": free})


_KINDS: dict[str, Kind] = {}


def _declare(category: Category, name: str, traits: Traits, slot: str = "") -> Callable[[Any], Any]:
    def decorate(implementation: Any) -> Any:
        with _placed(implementation):
            return register(implementation)

    def register(implementation: Any) -> Any:
        _check_class(name, category, implementation)
        kind = kind_of(name, category, implementation, traits, slot)
        _check_declaration(name, kind, implementation)
        listing = catalogue().get(name)
        if listing is not None and listing.module != kind.source:
            raise UserError(f"{name!r} is a kind that is built in ({listing.module}): another needs another name")
        before = _KINDS.get(name)
        if before and (before.source, before.implementation.__qualname__) != (kind.source, implementation.__qualname__):
            raise UserError(f"two kinds are called {name!r}: another is declared in {_file_of(before.implementation)}")
        _KINDS[name] = kind
        implementation.kind_name = name
        return implementation

    return decorate


@contextmanager
def _placed(implementation: Any) -> Iterator[None]:
    """Give mistakes of a declaration its file and line: those of the class or function, where nothing is nearer."""
    try:
        yield
    except UserError as error:
        place = _place_of(implementation)
        if place is not None and all(problem.span is None for problem in error.problems):
            error.problems = tuple(dataclasses.replace(problem, span=place) for problem in error.problems)
        raise


def _place_of(implementation: Any) -> Span | None:
    """Where a class or function begins; None where no file has it (a notebook's cell has a file of its own)."""
    try:
        lines, number = inspect.getsourcelines(implementation)
    except (OSError, TypeError):
        return None
    heads = (place for place, line in enumerate(lines) if line.lstrip().startswith(("class ", "def ", "async def ")))
    place = next(heads, 0)
    line = lines[place].rstrip()
    start = len(line) - len(line.lstrip())
    return Span(_file_of(implementation), number + place, start + 1, len(line) + 1)


def _file_of(implementation: Any) -> str:
    try:
        return inspect.getsourcefile(implementation) or implementation.__module__
    except TypeError:
        return str(implementation.__module__)


def component(
    name: str,
    *,
    rows: Literal["independent", "batch"] = "batch",
    state: Literal["none", "effect", "kept"] = "effect",
    draws: Literal["none", "choice", "noise"] = "noise",
    noise: tuple[str, ...] = (),
    context: Literal["indexed", "no"] = "no",
    keys: Callable[[Any], Keys] | None = None,
    selects: bool = False,
    cuts: bool = False,
) -> Callable[[Any], Any]:
    """Register an `nn.Module` class with `Config` and an annotated `forward`.

    Nothing is promised by what is left out, and what is promised is tried on a tiny copy before anything relies on it:

    - `rows="independent"`: a row of the result depends on its own row alone;
    - `state="none"`: a call changes no weight and no buffer (`effect`: it may; `kept`: a queue);
    - `draws="none"`: nothing is drawn at random. One of `noise` draws at every call, unless `noise` names the settings
      that say by being 0, all of them, that it does not;
    - `context="indexed"`: it has `keys_values(context)`, and takes `kv` and `rows` in the context's place; `keys` says
      of its settings by what it makes them, so that a context may be projected once for components that share them;
    - `selects`: a head that takes `at`, the flat places at which scores are wanted;
    - `cuts`: a masker, whose words are a text of their own.
    """
    traits = Traits(rows, state, draws, context, selects, cuts, noise=noise, keys=keys)
    return _declare("component", name, traits)


def loss(
    name: str,
    *,
    rows: Literal["independent", "batch"] = "batch",
    selects: bool = False,
    foretells: Literal["nothing", "next", "hidden"] = "nothing",
) -> Callable[[Any], Any]:
    """Register a loss: an `nn.Module` class whose annotated `forward` gives a `Scalar`.

    `rows="independent"`: it is a mean over terms that each read one row, so that a batch may be computed in pieces.
    `selects`: its terms are places in a text, which its method `selects(text or labels)` names; it takes logits at
    these places alone, and gives their number as `Scalar.count`.
    `foretells` says what its logits must not have seen: the `next` word, or the words that a masker has `hidden`.
    """
    traits = Traits(rows=rows, state="none", draws="none", selects=selects, foretells=foretells)
    return _declare("loss", name, traits)


def function(
    name: str, *, rows: Literal["independent", "batch"] = "independent", output: Output | None = None
) -> Callable[[Any], Any]:
    """Register a function without weights, state, randomness or settings; blueprints call it without declaring it.

    `output(None, ports)` gives the type of the result where the annotations do not.
    """
    declare = _declare("function", name, Traits(rows=rows, state="none", draws="none"))

    def decorate(implementation: Any) -> Any:
        if output is not None:
            implementation.output = output
        return declare(implementation)

    return decorate


def fills(
    name: str,
    *,
    slot: str,
    rows: Literal["independent", "batch"] = "batch",
    state: Literal["none", "effect", "kept"] = "effect",
    draws: Literal["none", "noise"] = "noise",
) -> Callable[[Any], Any]:
    """Register an inner part of towers: an `nn.Module` class with `Config`, made of `(config, place)`.

    `slot` is the setting of towers in which the name may be written, such as `ffn` (`compose_vlp.slots` lists them).
    What a part does not promise, no tower with it promises.
    """
    return _declare("slot", name, Traits(rows, state, draws), slot)


def tokenizer(name: str) -> Callable[[Any], Any]:
    """Register a tokenizer class: `Config`, `encode`, `decode`, `vocab_size`."""
    return _declare("tokenizer", name, Traits())


def source(name: str) -> Callable[[Any], Any]:
    """Register a data source class: `Config`, `__len__`, `record(i)`."""
    return _declare("source", name, Traits())


# --- reading a kind off its class -------------------------------------------------------------------------------


def kind_of(name: str, category: Category, implementation: Any, traits: Traits, slot: str = "") -> Kind:
    """The `Kind` of a decorated class or function.

    Raises:
        UserError: where an annotation is missing or is none of those that ports may have.
    """
    config = getattr(implementation, "Config", None)
    ports: dict[str, Port] = {}
    returns: Pattern | dict[str, Pattern] = Pattern("Scalar")
    cached = False
    if category in ("component", "loss", "function"):
        forward = implementation if category == "function" else implementation.forward
        with _placed(forward):
            ports, returns = _ports(name, forward)
        cached = "cache" in inspect.signature(forward).parameters
    flows = getattr(implementation, "flows", None)
    custom = getattr(implementation, "output", None)
    return Kind(
        name=name,
        category=category,
        ports=ports,
        output=custom or signature(ports, returns, flows),
        returns=returns if ports else None,
        settings=_settings(config) if config else {},
        config=config,
        traits=traits,
        parts=dict(getattr(implementation, "parts", {})),
        flows=flows,
        check=getattr(implementation, "check", None),
        check_batch=getattr(implementation, "check_batch", None),
        describe=getattr(implementation, "describe", None),
        tables=getattr(implementation, "tables", None),
        trainable=category == "component",
        cached=cached,
        implementation=implementation,
        doc=inspect.getdoc(implementation) or "",
        source=implementation.__module__,
        slot=slot,
        promises=_with_parts(traits, config) if config else None,
    )


_METHODS: Final[Mapping[Category, tuple[str, ...]]] = {
    "component": ("forward",),
    "loss": ("forward",),
    "slot": ("forward",),
    "tokenizer": ("encode", "decode", "vocab_size"),
    "source": ("__len__", "record"),
}
"""What the class of a kind has, beside its `Config`."""


def _check_class(name: str, category: Category, implementation: Any) -> None:
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
        raise UserError(f"{name}: a {category} is a class with `Config`, and this is no class")
    if category in ("component", "loss", "slot") and not _is_module(implementation):
        raise UserError(
            f"{name}: a {category} is a class of `torch.nn.Module`: class {implementation.__name__}(nn.Module)"
        )
    lacking = [method for method in _METHODS[category] if _inherited(implementation, method)]
    if lacking:
        raise UserError(
            f"{name}: the class of a {category} has {' and '.join(_METHODS[category])}; there is no {lacking[0]}"
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
    found = getattr(implementation, method, None)
    return found is None or found is empty or getattr(found, "__isabstractmethod__", False)


def _check_constructor(name: str, category: Category, implementation: type) -> None:
    given = ("Config", "place") if category == "slot" else ("Config",)
    try:
        inspect.signature(implementation).bind(*given)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name}: `__init__` is called with {' and '.join(given)}, by place: {error}",
            hints=[f"def __init__(self, config: Config{', place: Place' * (category == 'slot')}) -> None: ..."],
        ) from None


def _check_declaration(name: str, kind: Kind, implementation: Any) -> None:
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
    for setting in kind.traits.noise:
        if setting not in kind.settings:
            raise UserError(
                f"{name}: `noise` names {setting!r}, which is no setting of its Config",
                hints=did_you_mean(setting, kind.settings),
            )
    if kind.category == "loss" and kind.traits.selects != callable(getattr(implementation, "selects", None)):
        raise UserError(
            f"{name}: a loss whose terms are places in a text has a method `selects`, and is declared with selects=True"
        )
    if kind.traits.context == "indexed" and not callable(getattr(implementation, "keys_values", None)):
        raise UserError(f'{name}: what promises context="indexed" has a method `keys_values(context)`')


_HINTS: Final = typing.get_type_hints(Traits)


def _with_parts(traits: Traits, config: type[BaseModel]) -> Callable[[Any], Traits] | None:
    """What a tower promises with the parts that its settings hold: nothing that one of them does not promise."""
    slots = [name for name, setting in config.model_fields.items() if _slot_of_field(setting)]

    def promises(settings: Any) -> Traits:
        parts = [get(getattr(settings, name).use).traits for name in slots]
        still = all(part.draws == "none" for part in parts)
        return replace(
            traits,
            rows=traits.rows if all(part.rows == "independent" for part in parts) else "batch",
            state=next((part.state for part in parts if part.state != "none"), traits.state),
            draws=traits.draws if still else "noise",
            noise=traits.noise if still else (),
        )

    return promises if slots else None


def _slot_of_field(info: FieldInfo) -> str:
    extra = info.json_schema_extra
    return str(extra.get("slot", "")) if isinstance(extra, dict) else ""


def _ports(name: str, forward: Callable[..., Any]) -> tuple[dict[str, Port], Pattern | dict[str, Pattern]]:
    hints = typing.get_type_hints(forward, include_extras=True)
    ports = {}
    for argument in inspect.signature(forward).parameters.values():
        if argument.name in RUNTIME_ARGUMENTS:
            continue
        if argument.name not in hints:
            raise UserError(f"{name}: argument {argument.name!r} of forward has no annotation, so it is no port")
        ports[argument.name] = _port(name, argument, hints[argument.name])
    if "return" not in hints:
        raise UserError(f"{name}: forward does not say what it returns")
    return ports, _result(name, hints["return"])


def _result(name: str, hint: Any) -> Pattern | dict[str, Pattern]:
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        fields = typing.get_type_hints(hint, include_extras=True)
        return {field: _patterns(name, field, _alternatives(hint)[0])[0] for field, hint in fields.items()}
    return _patterns(name, "return", _alternatives(hint)[0])[0]  # of several, the type's hook says which


def _port(name: str, argument: inspect.Parameter, hint: Any) -> Port:
    several = False
    alternatives = [one for one in _alternatives(hint) if one is not type(None)]
    if len(alternatives) == 1 and typing.get_origin(alternatives[0]) in (list, tuple):
        several = True
        alternatives = list(_alternatives(typing.get_args(alternatives[0])[0]))
    bounded = next((a for a in alternatives if _plain(a) in CONSTANTS and a not in CONSTANTS), None)
    alternatives = [_plain(a) if _plain(a) in CONSTANTS else a for a in alternatives]
    literals = [a for a in alternatives if a in CONSTANTS or typing.get_origin(a) is Literal]
    choices = tuple(str(c) for a in literals if typing.get_origin(a) is Literal for c in typing.get_args(a))
    values = [a for a in alternatives if a not in literals]
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
        beside=next((x.port for x in typing.get_args(bounded)[1:] if isinstance(x, Beside)), ""),
    )


CONSTANTS: Final = (str, int, float, bool)


def _plain(hint: Any) -> Any:
    """What an annotation says without its remarks."""
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
    return (Pattern(kind, tuple(dims.split())),)


def _settings(config: type[BaseModel]) -> dict[str, Setting]:
    found = {}
    for name, info in config.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        where = extra.get("inferred")
        found[name] = Setting(
            name=name,
            annotation=f"a kind of {extra['slot']}" if "slot" in extra else _readable(info.annotation),
            default=_default(info),
            description=info.description or "",
            inferred=where if isinstance(where, str) else None,
            free=bool(extra.get("free")),
            bounds={type(m).__name__.lower(): getattr(m, type(m).__name__.lower(), None) for m in info.metadata},
        )
    return found


def _default(info: FieldInfo) -> Any:
    """The value where nothing is written; of a slot the name of its kind, which is not imported for that."""
    extra = info.json_schema_extra
    if isinstance(extra, dict) and _slot_of_field(info):
        return extra["kind"]
    return ... if info.is_required() else info.get_default(call_default_factory=True)


def _readable(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


# --- finding kinds ----------------------------------------------------------------------------------------------

DECORATORS: Final[Mapping[str, Category]] = {
    "component": "component",
    "loss": "loss",
    "function": "function",
    "fills": "slot",
    "tokenizer": "tokenizer",
    "source": "source",
}
_DECLARES: Final = re.compile(rf"^@({'|'.join(DECORATORS)})\(|^class \w+Settings\(", re.MULTILINE)
"""Only files with such a line are parsed."""


@dataclass(frozen=True)
class Listing:
    """What a scan of a file says of a kind, without importing it."""

    name: str
    category: str
    module: str
    fields: frozenset[str]
    summary: str
    slot: str = ""


@cache
def catalogue() -> Mapping[str, Listing]:
    """Every built-in kind by name, read off the files' syntax: imports nothing."""
    here = Path(__file__).parent
    roots = ((here / "components", "compose_vlp.components"), (here / "data" / "sources", "compose_vlp.data.sources"))
    trees: dict[str, ast.Module] = {}
    for root, package in roots:
        for file in sorted(root.rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if _DECLARES.search(text):
                relative = file.relative_to(root).with_suffix("")
                trees[".".join((package, *relative.parts)).removesuffix(".__init__")] = ast.parse(text)
    shared = _shared_settings(trees.values())
    return {listing.name: listing for module, tree in trees.items() for listing in _listings(tree, module, shared)}


def _shared_settings(trees: Iterable[ast.Module]) -> dict[str, frozenset[str]]:
    """The fields of models of settings that several kinds extend, by name: classes that end in `Settings`."""
    classes = {
        node.name: node
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Settings")
    }

    def fields(name: str) -> frozenset[str]:
        if name not in classes:
            return frozenset()
        bases = {base.id: fields(base.id) for base in classes[name].bases if isinstance(base, ast.Name)}
        return _fields(classes[name], bases)

    return {name: fields(name) for name in classes}


def _listings(tree: ast.Module, module: str, shared: Mapping[str, frozenset[str]]) -> Iterator[Listing]:
    """The kinds that a source file declares at its top level."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            if not (isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id in DECORATORS):
                continue
            if mark.args and isinstance(mark.args[0], ast.Constant):
                summary = (ast.get_docstring(node) or "").split("\n")[0]
                fields = _config_fields(node, shared)
                fields |= _forward_arguments(node) if mark.func.id == "loss" else frozenset()
                slots = [k.value.value for k in mark.keywords if k.arg == "slot" and isinstance(k.value, ast.Constant)]
                slot = str(slots[0]) if slots else ""
                yield Listing(str(mark.args[0].value), DECORATORS[mark.func.id], module, fields, summary, slot)


def _config_fields(node: ast.AST, shared: Mapping[str, frozenset[str]]) -> frozenset[str]:
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.ClassDef) and inner.name == "Config":
            return _fields(inner, shared)
    return frozenset()


def _fields(node: ast.ClassDef, shared: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The annotated names of a class, with those of the settings that it extends."""
    own = {s.target.id for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)}
    bases = (shared.get(base.id, frozenset()) for base in node.bases if isinstance(base, ast.Name))
    return frozenset(own).union(*bases)


def _forward_arguments(node: ast.AST) -> frozenset[str]:
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.FunctionDef) and inner.name == "forward":
            return frozenset(argument.arg for argument in inner.args.args) - RUNTIME_ARGUMENTS
    return frozenset()


def is_built_in(kind: Kind) -> bool:
    """Does a kind belong to the package itself?"""
    listing = catalogue().get(kind.name)
    return listing is not None and listing.module == kind.source


def names(*categories: str) -> list[str]:
    """Names of all kinds known (built-in, from plugins), of these categories or of all."""
    listed = {n: one.category for n, one in catalogue().items()} | {n: k.category for n, k in _KINDS.items()}
    return sorted(n for n, category in listed.items() if not categories or category in categories)


def slot_of(name: str) -> str:
    """The slot that an inner part fills; nothing for other names."""
    if name in _KINDS:
        return _KINDS[name].slot
    listing = catalogue().get(name)
    return listing.slot if listing else ""


def fields_of(name: str) -> frozenset[str] | None:
    """The keys that an entry of a kind may have: settings, and ports where it is a loss; None for an unknown kind.

    Imports nothing where the kind is built in.
    """
    if name in _KINDS:
        kind = _KINDS[name]
        return frozenset(kind.settings) | (frozenset(kind.ports) if kind.category == "loss" else frozenset())
    listing = catalogue().get(name)
    return listing.fields if listing else None


def get(name: str) -> Kind:
    """The kind of that name; imports its module.

    Raises:
        UserError: no such kind; offers the nearest.
    """
    if name not in _KINDS:
        listing = catalogue().get(name)
        if listing is None:
            raise UserError(f"no kind is called {name!r}", hints=did_you_mean(name, names()))
        importlib.import_module(listing.module)
    return _KINDS[name]


def forget(modules: Collection[str]) -> None:
    """Take back the kinds that these modules declared, which are to be imported anew."""
    for name in [name for name, kind in _KINDS.items() if kind.source in modules]:
        del _KINDS[name]


@contextmanager
def set_aside(modules: Collection[str]) -> Iterator[None]:
    """Let the names of kinds that these modules declared be taken within; what is not taken is theirs again after."""
    theirs = {name: kind for name, kind in _KINDS.items() if kind.source in modules}
    forget(modules)
    try:
        yield
    finally:
        for name, kind in theirs.items():
            _KINDS.setdefault(name, kind)


def declared(modules: Collection[str]) -> list[str]:
    """The names of the kinds that these modules declared."""
    return sorted(name for name, kind in _KINDS.items() if kind.source in modules)


def load_plugin(path: str | Path) -> list[str]:
    """Import a user's file, which may declare kinds; gives their names.

    Raises:
        UserError: what `compose_vlp.plugins.load_plugin` raises.
    """
    from compose_vlp import plugins

    return list(plugins.load_plugin(path).kinds)
