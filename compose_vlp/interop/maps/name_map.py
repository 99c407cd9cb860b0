"""What a name map is, and the table of all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.interop.rules import Rule

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Converted:
    """A file's tensors by our names, below the component; `sources` are the names in the file that each came from."""

    tensors: Mapping[str, Tensor]
    sources: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NameMap:
    """How a file of `format` fills a component of one of `kinds` (all, if none is named).

    `fits(names, module)` tells whether a file has this format; `convert(state, module)` renames it, and raises a
    `UserError` where the file's model has something that changes its numbers and the component has not.
    """

    format: str
    kinds: frozenset[str]
    fits: Callable[[Collection[str], nn.Module], bool]
    convert: Callable[[State, nn.Module], Converted]

    def takes(self, kind: str) -> bool:
        return not self.kinds or kind in self.kinds


MAPS = (
    "timm_model",
    "timm_vit",
    "transformers_model",
    "transformers_bert",
    "open_clip_vit",
    "open_clip_text",
    "open_clip_projection",
    "ours",
)
"""Modules of this package that hold a `MAP`, in the order in which a file is tried."""


def all_maps() -> Iterator[NameMap]:
    """Every map, in the order in which a file is tried."""
    for name in MAPS:
        name_map: NameMap = importlib.import_module(f"compose_vlp.interop.maps.{name}").MAP
        yield name_map


def choose_map(
    form: str | None, kind: str, spellings: Iterable[Mapping[str, str]], module: nn.Module, what: str
) -> tuple[NameMap, Mapping[str, str]]:
    """The first map (of a format, or of any) that a file's names fit, and the spelling in which they do.

    A spelling gives the names in the file by those to look at, without a component's name for instance.

    Raises:
        UserError: no such format, none for this kind, or none that fits; `what` says from where to where.
    """
    maps = _for_kind(form, kind)
    spellings = [spelling for spelling in spellings if spelling]
    for spelling in spellings:
        for name_map in maps:
            if name_map.fits(spelling, module):
                return name_map, spelling
    formats = ", ".join(dict.fromkeys(name_map.format for name_map in maps))
    raise UserError(
        f"`start`: the names in {what} are not those of format {form!r}"
        if form
        else f"`start`: the names in {what} are of no format that is known for a {kind!r}",
        hints=[
            f"the file has: {', '.join(sorted(spellings[-1])[:4])}, ..." if spellings else "the file has no tensors",
            f"the component has: {', '.join(sorted(module.state_dict())[:4])}, ...",
            f"formats for it: {formats}",
        ],
    )


def _for_kind(form: str | None, kind: str) -> list[NameMap]:
    every = list(all_maps())
    formats = sorted({name_map.format for name_map in every})
    if form is not None and form not in formats:
        hints = did_you_mean(form, formats) or (f"formats: {', '.join(formats)}",)
        raise UserError(f"`start`: no format is called {form!r}", hints=hints)
    chosen = [name_map for name_map in every if name_map.takes(kind) and form in (None, name_map.format)]
    if not chosen:
        known = sorted({name_map.format for name_map in every if name_map.takes(kind)})
        raise UserError(f"`start`: format {form!r} fills no {kind!r}", hints=[f"formats for it: {', '.join(known)}"])
    return chosen


def by_rules(rules: Iterable[Rule], state: State, module: nn.Module) -> Converted:
    """Rename by those rules whose tensors are all in the file, and whose names the component has."""
    ours = module.state_dict().keys()
    tensors: dict[str, Tensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for rule in rules:
        if all(name in state for name in rule.theirs) and all(name in ours for name in rule.ours):
            tensors.update(zip(rule.ours, rule.to_ours([state[name] for name in rule.theirs]), strict=True))
            sources.update(dict.fromkeys(rule.ours, rule.theirs))
    return Converted(tensors, sources)


def refuse(state: State, refused: Mapping[str, str], what: str) -> None:
    """Raise where a file's model computes something that the component does not: `refused` says by which names.

    Raises:
        UserError: it does.
    """
    for ending, thing in refused.items():
        example = next((name for name in state if name.endswith(ending)), None)
        if example is not None:
            raise UserError(f"`start`: {what} has {thing} (`{example}`), which this component has not")
