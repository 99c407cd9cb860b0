"""Rows and named dimensions of a call's arguments: they agree with each other, and with the component's settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from compose_vlp.errors import Span
from compose_vlp.graph.expanding.binding import Bound
from compose_vlp.graph.kinds import Kind, Pattern
from compose_vlp.graph.language.sizes import GROWING, Against, Fact, Sizing, Use
from compose_vlp.graph.plan import Call, Ref, refs_in
from compose_vlp.graph.problems import Problems
from compose_vlp.graph.signature import dimension_names, matching
from compose_vlp.graph.types import UNKNOWN, Count, LabelsType, NumberType, RowSpace, ValueType

OTHER_GRID = (
    "a grid is a picture's `size` by `patch`; the same picture at another size is an input of equal `from` and `view`"
)
ANY = "any_"
"""How a dimension's name begins that each value at a port, or in a list, has for itself."""


@dataclass
class Dimensions:
    """The dimensions of one blueprint's calls. A size that has clashed once is not spoken of again."""

    problems: Problems
    maker_of: Callable[[Ref], str]
    limits: dict[str, int] = field(default_factory=dict)
    """Classes of the logits that the labels of an input meet, where the input does not say how many it has."""
    _blamed: set[str | frozenset[str]] = field(default_factory=set)

    def agree(
        self, target: str, kind: Kind, bound: Sequence[Bound], sizing: Sizing | None
    ) -> list[tuple[str, Fact]] | None:
        """Collect what a call says of its component's settings; None where rows or sizes do not fit (noted)."""
        before = len(self.problems)
        rows: dict[str, tuple[RowSpace, str]] = {}
        sizes: dict[str, Fact] = {}
        counts: dict[str, Counted] = {}
        labels: list[tuple[str, Fact]] = []
        sound = True
        facts: list[tuple[str, Fact]] = []
        for argument in bound:
            for (value, text, span), ref in zip(argument.each(), refs_in(argument.given.arg), strict=True):
                pattern = matching(argument.port, value)
                if pattern is None or not pattern.dims:
                    continue
                maker = self.maker_of(ref)
                self._rows(pattern, value, text, span, rows)
                sound &= self._positions(pattern, value, Counted(UNKNOWN, text, span, maker), counts)
                if isinstance(value, LabelsType | NumberType):
                    labels += _classes(pattern, value, argument.key, text, span, maker)
                for ours, fact in _facts(pattern, value, argument.key, text, span, maker):
                    if ours.startswith(ANY):
                        continue
                    first = sizes.setdefault(ours, fact)
                    if first.size != fact.size and fact.use == "equal":
                        self._against(target if sizing else "", ours, fact, first)
                        sound = False
                    elif sizing is not None and sizing.setting(ours) is not None:
                        facts.append((ours, fact))
        self._labels(labels, sizes)
        if sizing is not None:
            facts += _sources(kind, bound)
        return facts if sound and len(self.problems) == before else None

    def settle(
        self, plan: Sequence[Call], live: Collection[str], sizings: Mapping[str, Sizing], *, unsure: bool
    ) -> None:
        """Weigh what all calls of a walk said of the settings; notes clashes, but not those that follow from others.

        What a call says does not count where nothing needs its value and a live call says it: the vocabulary of a paper
        may stay unread, and a substitution may give its parts other sizes (two contexts). Where it is `unsure` what is
        read, since a loss or an output could not be read itself, that holds of calls at the place of a live one only.
        """
        places = {fact.span for sizing in sizings.values() for _, fact in sizing.facts if unsure and fact.call in live}

        def counts(fact: Fact) -> bool:
            return fact.call in live or (unsure and fact.span not in places)

        clashes: dict[str, list[tuple[Sizing, Against]]] = {}
        for sizing in sizings.values():
            for against in sizing.settle(counts):
                clashes.setdefault(against.fact.call, []).append((sizing, against))
        tainted: set[str] = set()
        for call in plan if clashes else ():
            if any(ref.call in tainted for ref in call.refs()):
                tainted.add(call.id)
                continue
            for sizing, against in clashes.get(call.id, ()):
                tainted.add(call.id)
                if self._is_new(_causes(against.fact, against.other)):
                    with self.problems.within(call.chain):
                        sizing.explain(against, self.problems)

    def _against(self, component: str, dimension: str, fact: Fact, first: Fact) -> None:
        """Two arguments of one call differ; a component that is called twice so says it once."""
        causes = _causes(fact, first) | ({f"{component}.{dimension}"} if component else set())
        if self._is_new(causes):
            hint = f"`{dimension}` is one size here"
            self.problems.add(f"{fact.what} against {first.what}", fact.span, hint, related=[("the other", first.span)])

    def _positions(self, pattern: Pattern, value: ValueType, here: Counted, known: dict[str, Counted]) -> bool:
        """Tell whether a value has the positions of an earlier one at a port whose dimension has the same name."""
        count = getattr(value, "count", None)
        names = zip(pattern.dims, dimension_names(pattern), strict=False)
        places = [ours for ours, value_dim in names if value_dim in GROWING]
        if not isinstance(count, Count) or not places or places[0].startswith(ANY):
            return True
        here = here._replace(positions=count)
        first = known.setdefault(places[0], here)
        if first.positions.fixed is None:
            known[places[0]] = here
        if first.positions.may_be(count):
            return True
        if self._is_new({frozenset({f"positions of {here.text}", f"positions of {first.text}"})}):
            message = f"{here.words()}, and {first.words()}"
            self.problems.add(message, here.span, *_count_hints(here, first), related=[("the other", first.span)])
        return False

    def _labels(self, labels: Sequence[tuple[str, Fact]], sizes: Mapping[str, Fact]) -> None:
        """Labels are classes of the logits that they meet: not more than these have."""
        for name, label in labels:
            logits = sizes.get(name)
            if logits is None:
                continue
            if not label.size:
                self.limits[label.maker] = min(logits.size, self.limits.get(label.maker, logits.size))
            elif label.size > logits.size and self._is_new(_causes(label, logits)):
                message = f"{label.what} against {logits.what}: some labels have no score"
                hint = f"`classes: {label.size}` of `{logits.maker}`, or fewer classes of `{label.maker}`"
                self.problems.add(message, label.span, hint, related=[("the other", logits.span)])

    def _is_new(self, causes: set[str | frozenset[str]]) -> bool:
        new = not causes & self._blamed
        self._blamed |= causes
        return new

    def _rows(
        self, pattern: Pattern, value: ValueType, text: str, span: Span, known: dict[str, tuple[RowSpace, str]]
    ) -> None:
        spaces = [("rows", pattern.dims[0], value.rows)]
        columns = getattr(value, "columns", None)
        if columns is not None and len(pattern.dims) > 1:
            spaces.append(("columns", pattern.dims[1], columns))
        for word, variable, space in spaces:
            if variable.startswith(ANY):  # rows of its own for each value
                continue
            first, other = known.setdefault(variable, (space, text))
            if first != space:
                hints = _row_hints(space, text, first, other) if word == "rows" else ()
                message = f"{word} of `{text}` are {space}, those of `{other}` are {first}"
                self.problems.add(message, span, *hints)


class Counted(NamedTuple):
    """A value's positions, with what messages call it, where it stands, and the component that it comes from."""

    positions: Count
    text: str
    span: Span
    maker: str

    def words(self) -> str:
        """`x` of `vision` has 197 positions."""
        of = f" of `{self.maker}`" if self.maker and self.maker != self.text else ""
        return f"`{self.text}`{of} has {self.positions}"


def _count_hints(here: Counted, there: Counted) -> tuple[str, ...]:
    more = (here.positions.fixed or 0) - (there.positions.fixed or 0)
    if here.positions.follows == there.positions.follows and abs(more) == 1:
        return ("if one has a CLS that the other has not: `.tokens` leaves it out",)
    if here.positions.grid != there.positions.grid and here.positions.grid and there.positions.grid:
        return (OTHER_GRID,)
    return ("`mean(x)` makes one vector of a sequence, `join` puts positions behind each other",)


def _classes(
    pattern: Pattern, value: ValueType, port: str, text: str, span: Span, maker: str
) -> Iterable[tuple[str, Fact]]:
    """How many classes labels have, 0 where nothing says it."""
    for ours, value_dim in zip(pattern.dims, dimension_names(pattern), strict=False):
        if value_dim == "classes":
            size = value.sizes().get(value_dim) or 0
            yield ours, Fact(size, "most", f"classes {size} of {text}", port, span, value_dim, "", maker)


def _causes(fact: Fact, other: Fact) -> set[str | frozenset[str]]:
    """List what is not spoken of again: these two values, and the two components that they come from."""
    makers = frozenset({f"{fact.measure} of {fact.maker}", f"{other.measure} of {other.maker}"})
    return {fact.what, other.what} | ({makers} if fact.maker and other.maker else set())


def _facts(
    pattern: Pattern, value: ValueType, port: str, text: str, span: Span, maker: str
) -> Iterable[tuple[str, Fact]]:
    known = value.sizes() if not isinstance(value, LabelsType | NumberType) else {"length": value.sizes().get("length")}
    for ours, value_dim in zip(pattern.dims[1:], dimension_names(pattern)[1:], strict=False):
        size = known.get(value_dim)
        if size is not None:
            use: Use = "most" if value_dim in GROWING else "equal"
            root = getattr(value, "root", "")
            yield ours, Fact(size, use, f"{value_dim} {size} of {text}", port, span, value_dim, root, maker)


TABLES = GROWING | {"grid"}
"""Sizes of tables of positions: made for the largest; a kind whose table takes no other refuses it by itself."""


def _sources(kind: Kind, bound: Sequence[Bound]) -> Iterable[tuple[str, Fact]]:
    """Facts for settings that say where they come from (`inferred("x.vocab_size")`)."""
    for name, setting in kind.settings.items():
        port, _, what = (setting.inferred or "").partition(".")
        for argument in bound if what else ():
            if argument.port.name != port:
                continue
            values = argument.values()
            size = len(values) if what == "count" else next((s for v in values if (s := v.sizes().get(what))), None)
            if size is None:
                continue
            use: Use = "otherwise" if setting.free else "most" if what in TABLES else "equal"
            text = (
                f"{what} {size} of {argument.given.text}"
                if what != "count"
                else f"{size} values in {argument.given.text}"
            )
            yield name, Fact(size, use, text, argument.key, argument.given.span, what, getattr(values[0], "root", ""))


def _row_hints(here: RowSpace, text: str, there: RowSpace, other: str) -> tuple[str, ...]:
    if here.base == there.base and here.gathered != there.gathered:
        local = text if there.gathered else other
        return (f"`gathered({local})` has the rows of all processes",)
    if there.owner == here.base:
        return (f"`{text}[{there.base}.owner]` has one row for each of {there.base}",)
    if here.owner == there.base:
        return (f"`{other}[{here.base}.owner]` has one row for each of {here.base}",)
    return ()
