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

import importlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

from pydantic import Field

from compose_vlp.catalogue import Listing, catalogue
from compose_vlp.declarations import check_class, check_declaration
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.kinds import AsPart, Category, Compares, Keys, Kind, Like, OnText, Output, Patches, Traits, When
from compose_vlp.graph.types import Flow
from compose_vlp.kind_reader import (
    DETACHED,
    Beside,
    Mixing,
    OfTokenizer,
    Settings,
    file_of,
    kind_of,
    placed,
)

__all__ = [
    "ALL",
    "DETACHED",
    "EACH",
    "PAST",
    "AsPart",
    "Beside",
    "Compares",
    "Like",
    "Listing",
    "Mixing",
    "OfTokenizer",
    "OnText",
    "Patches",
    "Settings",
    "When",
    "adapter",
    "catalogue",
    "component",
    "declared",
    "fields_of",
    "fills",
    "forget",
    "function",
    "get",
    "inferred",
    "is_built_in",
    "loss",
    "names",
    "set_aside",
    "slot_of",
    "source",
    "tokenizer",
]

EACH: Final = Flow.EACH
PAST: Final = Flow.PAST
ALL: Final = Flow.ALL


def inferred(source: str = "", description: str = "", *, free: bool = False) -> Any:
    """Declare a setting that follows from the graph: from the dimension of its own name, or from `port.size`.

    Writing it in a blueprint is an assertion that is checked; where it is `free`, the port's size is only what stands
    where nothing is written (a text decoder takes its context's width). One that may follow from nothing (the width of
    a context that is not given) is annotated `int | None`; any other that follows from nothing is a mistake.
    """
    return Field(default=None, description=description, json_schema_extra={"inferred": source, "free": free})


def known(size: int | None) -> bool:
    """Has this inferred setting been told already?"""
    return size is not None


_KINDS: dict[str, Kind] = {}


def _declare(category: Category, name: str, traits: Traits, slot: str = "") -> Callable[[Any], Any]:
    def decorate(implementation: Any) -> Any:
        with placed(implementation):
            return register(implementation)

    def register(implementation: Any) -> Any:
        check_class(name, category, implementation)
        kind = kind_of(name, category, implementation, traits, slot, get)
        check_declaration(name, kind, implementation)
        listing = catalogue().get(name)
        if listing is not None and listing.module != kind.source:
            raise UserError(f"{name!r} is a kind that is built in ({listing.module}): another needs another name")
        before = _KINDS.get(name)
        if before and (before.source, before.implementation.__qualname__) != (kind.source, implementation.__qualname__):
            raise UserError(f"two kinds are called {name!r}: another is declared in {file_of(before.implementation)}")
        _KINDS[name] = kind
        implementation.kind_name = name
        return implementation

    return decorate


def component(
    name: str,
    *,
    rows: Literal["independent", "batch"] = "batch",
    state: Literal["none", "effect", "learns", "kept"] = "effect",
    draws: Literal["none", "choice", "noise"] = "noise",
    noise: tuple[str, ...] = (),
    context: Literal["indexed", "no"] = "no",
    keys: Callable[[Any], Keys] | None = None,
    layers: str = "",
    selects: bool = False,
    cuts: bool = False,
    auxiliary: tuple[str, ...] = (),
    last_layer: bool = False,
    chunks: bool = False,
) -> Callable[[Any], Any]:
    """Register an `nn.Module` class with `Config` and an annotated `forward`.

    Nothing is promised by what is left out, and what is promised is tried on a tiny copy before anything relies on it:

    - `rows="independent"`: a row of the result depends on its own row alone;
    - `state="none"`: a call changes no weight and no buffer (`effect`: it may; `kept`: a queue;
      `learns`: only while some of its weights are trained; frozen, its rows are independent and nothing is drawn);
    - `draws="none"`: nothing is drawn at random. One of `noise` draws at every call, unless `noise` names the settings
      that say by being 0, all of them, that it does not;
    - `context="indexed"`: it has `keys_values(context)`, and takes `kv` and `rows` in the context's place; `keys` says
      of its settings by what it makes them, so that a context may be projected once for components that share them;
    - `layers` names the setting that says how many layers look at the context, whose attention may be looked at;
    - `selects`: a head that takes `at`, the flat places at which scores are wanted;
    - `last_layer`: a tower that takes `read` (`compose_vlp.values.chosen.Reads`), what is read of its result, and whose
      last layer computes these positions alone;
    - `chunks`: a head that takes `scored`, and where that is False gives `compose_vlp.values.unscored.UnscoredLogits`,
      whose last product the loss makes in chunks of rows (or whole `Logits`, where it cannot);
    - `cuts`: a masker, whose words are a text of their own.

    `auxiliary` names losses that it has of its own, each called as the setting that is its weight
    (`compose_vlp.auxiliary`).
    """
    traits = Traits(
        rows,
        state,
        draws,
        context,
        selects,
        last_layer,
        chunks,
        cuts,
        auxiliary=auxiliary,
        noise=noise,
        layers=layers,
        keys=keys,
    )
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
    auxiliary: tuple[str, ...] = (),
) -> Callable[[Any], Any]:
    """Register an inner part of towers: an `nn.Module` class with `Config`, made of `(config, place)`.

    `slot` is the setting of towers in which the name may be written, such as `ffn`. What a part does not promise, no
    tower with it promises. `auxiliary` is as that of `component`.
    """
    return _declare("slot", name, Traits(rows, state, draws, auxiliary=auxiliary), slot)


def adapter(
    name: str,
    *,
    rows: Literal["independent", "batch"] = "batch",
    state: Literal["none", "effect"] = "effect",
    draws: Literal["none", "noise"] = "noise",
    noise: tuple[str, ...] = (),
) -> Callable[[Any], Any]:
    """Register an adapter of linear maps: an `nn.Module` class with `Config`, made of `(config, sizes)`.

    Its `forward(x, weight, bias)` stands in the map's place; `merged(weight)`, where it has one, gives the weight of
    the plain map that computes the same (module `adapters` says more). What it does not promise, no component with it
    promises; one of `noise` draws unless the settings named there are all 0.
    """
    return _declare("adapter", name, Traits(rows, state, draws, noise=noise))


def tokenizer(name: str) -> Callable[[Any], Any]:
    """Register a tokenizer class: `Config`, `encode`, `decode`, `vocab_size`."""
    return _declare("tokenizer", name, Traits())


def source(name: str) -> Callable[[Any], Any]:
    """Register a data source class: `Config`, `__len__`, `record(i)`."""
    return _declare("source", name, Traits())


# --- finding kinds ----------------------------------------------------------------------------------------------


def is_built_in(kind: Kind) -> bool:
    """Does a kind belong to the package itself?"""
    listing = catalogue().get(kind.name)
    return listing is not None and listing.module == kind.source


def names(*categories: str) -> list[str]:
    """Names of all kinds known (built-in, from plugins), of these categories or of all."""
    listed = {n: listing.category for n, listing in catalogue().items()} | {n: k.category for n, k in _KINDS.items()}
    return sorted(n for n, category in listed.items() if not categories or category in categories)


def slot_of(name: str) -> str:
    """Name the slot that an inner part fills; nothing for other names."""
    if name in _KINDS:
        return _KINDS[name].slot
    listing = catalogue().get(name)
    return listing.slot if listing else ""


def fields_of(name: str) -> frozenset[str] | None:
    """List the keys of an entry of a kind: settings, and ports where it is a loss; None for an unknown kind.

    Imports nothing where the kind is built in.
    """
    if name in _KINDS:
        kind = _KINDS[name]
        return frozenset(kind.settings) | (frozenset(kind.ports) if kind.category == "loss" else frozenset())
    listing = catalogue().get(name)
    return listing.fields if listing else None


def get(name: str) -> Kind:
    """Get the kind of that name; imports its module.

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
    kinds = {name: kind for name, kind in _KINDS.items() if kind.source in modules}
    forget(modules)
    try:
        yield
    finally:
        for name, kind in kinds.items():
            _KINDS.setdefault(name, kind)


def declared(modules: Collection[str]) -> list[str]:
    """List the names of the kinds that these modules declared."""
    return sorted(name for name, kind in _KINDS.items() if kind.source in modules)
