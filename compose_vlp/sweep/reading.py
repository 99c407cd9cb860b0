"""Reading a sweep: the language's own reader, so that every mistake has its place, and all are told at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, cast, get_args

from pydantic import Field

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.locate import LIBRARY, SWEEPS
from compose_vlp.blueprint.nodes import COMMAND_LINE, Entry, Items, Node, Scalar, Source
from compose_vlp.blueprint.nodes import Mapping as Entries
from compose_vlp.blueprint.reader import read_file
from compose_vlp.blueprint.sections import Task
from compose_vlp.blueprint.typed import NOTHING, read_typed
from compose_vlp.errors import BlueprintError, Problem, Span, UserError, did_you_mean
from compose_vlp.files import is_file
from compose_vlp.sweep.document import Budget, Design, Factor, Level, Measure, Plain, Search, Sweep
from compose_vlp.sweep.ranges import RangeError, is_range, read_range
from compose_vlp.sweep.words import Word, words_of

FIELDS: Final[Mapping[str, str]] = {
    "sweep": "its name",
    "question": "what it asks, in a sentence",
    "base": "blueprints and overrides that all cells begin from",
    "vary": "factors: a name with levels, or a path with values",
    "seeds": "how many, or which",
    "design": "grid, one_at_a_time, fraction, or `{use: search, trials: 20, objective: ...}`",
    "leave_out": "cells that are not trained: levels by factor",
    "measure": "data, tasks, count, changes, scores",
    "budget": "steps, flops or minutes of each run",
}
_SEEDS: Final[Any] = Annotated[int, Field(ge=1, le=1000)] | tuple[Annotated[int, Field(ge=0)], ...]


def find_sweep(word: str) -> Path | None:
    """The file of a sweep, by path or by the name of a built-in one; None where the word means a blueprint.

    Raises:
        UserError: it means nothing.
    """
    path = LIBRARY / f"{word}.yaml"
    if not (word.startswith(SWEEPS) and is_file(path)):
        if word.startswith(SWEEPS) and not word.endswith(".yaml"):
            known = [file.relative_to(LIBRARY).with_suffix("").as_posix() for file in LIBRARY.glob(f"{SWEEPS}*.yaml")]
            hints = did_you_mean(word, known) or (f"sweeps: {', '.join(sorted(known))}",)
            raise UserError(f"no sweep is called {word!r}", hints=hints)
        path = Path(word)
        if path.suffix not in (".yaml", ".yml"):
            return None
        if not is_file(path):
            raise UserError(f"{word}: no such file")
    return path if "sweep" in read_file(path).root else None


def read_sweep_file(path: Path, name: str | None = None) -> Sweep:
    """The sweep in a file.

    Raises:
        BlueprintError: all mistakes of the file itself, at once.
        UserError: no text is there.
    """
    reading = read_file(path, name)
    reader = _Reader(reading.source, list(reading.problems))
    sweep = reader.sweep(reading.root, path.parent, whole=reading.whole)
    if reader.problems or sweep is None:
        raise BlueprintError(reader.problems, {reading.source.name: reading.source.lines})
    return sweep


class _Reader:
    """Reads the parts of a sweep, and keeps every mistake."""

    def __init__(self, source: Source, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems

    def sweep(self, root: Entries, folder: Path, *, whole: bool) -> Sweep | None:
        for entry in root:
            if entry.name not in FIELDS and not entry.key.is_broken:
                hints = did_you_mean(entry.name, FIELDS) or (f"a sweep has {', '.join(FIELDS)}",)
                self.refuse(f"`{entry.name}` is no part of a sweep", entry.key.span, *hints)
        for name in ("sweep", "base", "vary") if whole else ():
            if name not in root:
                self.refuse(f"`{name}` is missing", root.span, f"{name}: {FIELDS[name]}")
        factors = tuple(self.factors(root.get("vary")))
        self.named_twice(factors)
        seeds: Any = self.typed(root, "seeds", _SEEDS, 1)
        if seeds == ():
            self.refuse("`seeds` names none", root.entry("seeds").key.span, f"seeds: {FIELDS['seeds']}")  # type: ignore[union-attr]
        name = self.name(root)
        question = self.typed(root, "question", str, "")
        design: Any = self.design(root)
        measure: Any = self.typed(root, "measure", Measure, Measure())
        budget: Any = self.typed(root, "budget", Budget | None, None)
        base = tuple(word.beside(folder) for word in self.words(root.get("base")))
        if "base" in root and not _names_a_blueprint(base) and not any(map(_chooses_a_blueprint, factors)):
            self.refuse("`base` names no blueprint", root.entry("base").key.span, "base: [tiny/albef, alpha=0]")  # type: ignore[union-attr]
        leave_out = tuple(self.leave_out(root.get("leave_out"), factors))
        if self.problems:
            return None
        return Sweep(
            name=str(name),
            question=str(question),
            base=base,
            factors=tuple(self.beside(factor, folder) for factor in factors),
            seeds=tuple(range(seeds)) if isinstance(seeds, int) else tuple(dict.fromkeys(seeds)),
            design=design,
            leave_out=leave_out,
            measure=measure,
            budget=budget,
            spans=dict(_spans(root)),
            lines={self.source.name: self.source.lines},
            folder=folder,
        )

    def refuse(self, message: str, span: Span, *hints: str, related: tuple[tuple[str, Span], ...] = ()) -> None:
        self.problems.append(Problem(message, span, hints, related))

    def typed(self, root: Entries, name: str, annotation: Any, default: Any) -> Any:
        """A part by its annotation; its default where it is not written or cannot be read."""
        node = root.get(name)
        if node is None:
            return default
        if isinstance(node, Scalar) and node.is_empty:
            self.refuse(f"`{name}` is empty", root.entry(name).key.span, f"{name}: {FIELDS[name]}")  # type: ignore[union-attr]
            return default
        empty = Document(Entries((), root.span), sources={self.source.name: self.source})
        value, problems = read_typed(node, annotation, empty, name)
        self.problems += problems
        return default if value is NOTHING else value

    def name(self, root: Entries) -> str:
        """Read the sweep's name, which its folder has, too."""
        name = str(self.typed(root, "sweep", str, ""))
        node = root.get("sweep")
        if isinstance(node, Scalar) and not node.is_empty and (not name.strip() or set(name) & set("/\\")):
            message = f"a sweep's name is its folder's, too, and `{name}` is no name of a folder"
            self.refuse(message, node.span, "a word without `/`: `sweep: distillation`")
        return name

    def design(self, root: Entries) -> Any:
        node = root.get("design")
        if isinstance(node, Scalar) and node.text == "search":
            self.refuse("a search says how many trials, and of what", node.span, FIELDS["design"])
            return "grid"
        return self.typed(root, "design", Search if isinstance(node, Entries) else Plain, "grid")

    # --- words, factors, levels ---------------------------------------------------------------------------------

    def words(self, node: Node | None) -> list[Word]:
        """One word or a list of them."""
        if node is None:
            return []
        if isinstance(node, Entries):
            self.refuse(
                "blueprints and overrides are words: a list of them, not a mapping",
                node.span,
                "[tiny/albef, alpha=0]; one with brackets stands in single quotes",
            )
            return []
        collected: list[Word] = []
        for item in node if isinstance(node, Items) else [node]:
            if not isinstance(item, Scalar):
                self.refuse("a blueprint or an override is one word", item.span, "put it into single quotes")
            elif not item.text.strip():
                self.refuse("a word is empty", item.span)
            else:
                collected += words_of(item) if item is node else [Word.of(item)]
        return collected

    def factors(self, node: Node | None) -> Iterator[Factor]:
        if node is None:
            return
        if not isinstance(node, Entries) or not len(node):
            self.refuse("`vary` holds factors", node.span, "vary: {teacher: {on: [], off: [alpha=0]}, alpha: [0.4, 0]}")
            return
        for entry in node:
            if (factor := self.factor(entry)) is not None:
                yield factor

    def factor(self, entry: Entry) -> Factor | None:
        value, span = entry.value, entry.key.span
        if isinstance(value, Scalar):
            return self.drawn(entry.key, value)
        if isinstance(value, Items):
            levels = [self.value(entry.key, item) for item in value]
        else:
            levels = [Level(level.name, level.key.span, tuple(self.words(level.value))) for level in value]
        known = [level for level in levels if level is not None]
        if len(known) == len(levels) < 2:
            self.refuse(f"factor `{entry.name}` has one level: nothing varies", span, "two levels or more")
            return None
        self.twice(entry.name, known)
        return Factor(entry.name, entry.key, tuple(known)) if len(known) == len(levels) else None

    def drawn(self, key: Scalar, value: Scalar) -> Factor | None:
        """A path with a range."""
        try:
            return Factor(key.text, key, (), read_range(value.text))
        except RangeError as error:
            hint = f"values stand in a list: {key.text}: [{value.text}, ...]"
            self.refuse(str(error), value.span, *(() if is_range(value.text) else (hint,)))
            return None

    def value(self, path: Scalar, item: Node) -> Level | None:
        """One of the values of a path."""
        if isinstance(item, Scalar) and item.text:
            return Level(item.text, item.span, (Word.setting(path, item),))
        self.refuse(
            f"a value of `{path.text}` is one word",
            item.span,
            f"name the levels: {path.text}: {{wide: ['{path.text}=[0.5, 1]'], ...}}",
        )
        return None

    def beside(self, factor: Factor, folder: Path) -> Factor:
        levels = tuple(
            Level(level.name, level.span, tuple(w.beside(folder) for w in level.words)) for level in factor.levels
        )
        return Factor(factor.name, factor.key, levels, factor.range)

    def twice(self, factor: str, levels: Sequence[Level]) -> None:
        seen: dict[str, Level] = {}
        for level in levels:
            if (name := _alike(level.name)) in seen:
                first = (("the other", seen[name].span),)
                self.refuse(f"factor `{factor}` has `{level.name}` twice", level.span, related=first)
            seen.setdefault(name, level)

    def named_twice(self, factors: Sequence[Factor]) -> None:
        seen: dict[str, Factor] = {}
        for factor in factors:
            if (name := _alike(factor.name)) in seen:
                related = (("the other", seen[name].key.span),)
                self.refuse(f"`{factor.name}` is varied twice", factor.key.span, related=related)
            seen.setdefault(name, factor)

    def leave_out(self, node: Node | None, factors: Sequence[Factor]) -> Iterator[dict[str, tuple[str, ...]]]:
        """Combinations that are not trained: every cell that has these levels of these factors."""
        if node is None:
            return
        for item in node if isinstance(node, Items) else [node]:
            if not isinstance(item, Entries) or not len(item):
                self.refuse(
                    "`leave_out` is a list of levels by factor", item.span, "[{negatives: random, fusion: gated}]"
                )
                continue
            yield {entry.name: self._levels_of(entry, factors) for entry in item}

    def _levels_of(self, entry: Entry, factors: Sequence[Factor]) -> tuple[str, ...]:
        factor = next((candidate for candidate in factors if candidate.name == entry.name), None)
        if factor is None:
            known = [candidate.name for candidate in factors]
            hints = did_you_mean(entry.name, known) or (f"factors: {', '.join(known)}",)
            self.refuse(f"no factor is called `{entry.name}`", entry.key.span, *hints)
            return ()
        names = []
        for item in entry.value if isinstance(entry.value, Items) else [entry.value]:
            text = item.text if isinstance(item, Scalar) else ""
            if factor.level(text) is None:
                known = [level.name for level in factor.levels]
                hints = did_you_mean(text, known) or (f"levels: {', '.join(known)}",)
                self.refuse(f"factor `{factor.name}` has no level `{text}`", item.span, *hints)
            names.append(text)
        return tuple(names)


def _spans(root: Entries) -> Iterator[tuple[str, Span]]:
    """Places of the parts, and of the fields of mappings, `measure.tasks`."""
    for entry in root:
        yield entry.name, entry.key.span
        if isinstance(entry.value, Entries):
            for field_ in entry.value:
                yield f"{entry.name}.{field_.name}", field_.value.span


def sweep_of_words(
    words: Sequence[str], vary: Sequence[str], *, name: str, seeds: tuple[int, ...], options: Mapping[str, Any]
) -> Sweep:
    """The sweep that a command line says: `--vary 'path=first|second'`, the first value being the baseline's.

    `options` are its other options by their names.

    Raises:
        BlueprintError: all mistakes of `vary`.
        UserError: an unknown design or task, or a search without its goal.
    """
    source, base, factors = factors_of_words(words, vary)
    drawn = any(factor.range is not None for factor in factors)
    return Sweep(
        name=name,
        question="",
        base=base,
        factors=factors,
        seeds=seeds,
        design=_design_of_words(options, drawn=drawn),
        measure=_measure_of_words(options),
        budget=Budget(steps=options["steps"]) if "steps" in options else None,
        lines={COMMAND_LINE: source.lines},
    )


def factors_of_words(words: Sequence[str], vary: Sequence[str]) -> tuple[Source, tuple[Word, ...], tuple[Factor, ...]]:
    """Read a command line: its source, what all cells begin from, and the factors of `--vary`.

    Raises:
        BlueprintError: all mistakes of `vary`.
    """
    source = Source(COMMAND_LINE, "\n".join([*words, *vary]))
    reader = _Reader(source, [])
    base = [Word.of(Scalar(word, source.span(number, 1), source=source)) for number, word in enumerate(words, 1)]
    read = [_factor_of(reader, text, number) for number, text in enumerate(vary, len(words) + 1)]
    factors = tuple(factor for factor in read if factor is not None)
    reader.named_twice(factors)
    if reader.problems:
        raise BlueprintError(reader.problems, {COMMAND_LINE: source.lines})
    return source, tuple(base), factors


def _design_of_words(options: Mapping[str, Any], *, drawn: bool) -> Design:
    design = options.get("design", "grid")
    goals = [name for name in ("trials", "objective") if name in options]
    if drawn or goals:
        if len(goals) < 2 or "design" in options:
            raise UserError(
                "a search has `--trials` and `--objective`, and no other design",
                hints=(
                    "--vary 'optimizer.lr=log(1e-4, 1e-2)' --trials 20 --objective retrieval.text_to_image_recall_at_1",
                ),
            )
        return Search(use="search", trials=options["trials"], objective=options["objective"])
    if design not in get_args(Plain):
        hints = did_you_mean(design, get_args(Plain)) or (f"designs: {', '.join(get_args(Plain))}",)
        raise UserError(f"no design is called `{design}`", hints=hints)
    return cast(Plain, design)


def _measure_of_words(options: Mapping[str, Any]) -> Measure:
    given = {
        "data": options.get("data"),
        "tasks": tuple(options.get("task", ())) or None,
        "count": options.get("count"),
    }
    for task in given["tasks"] or ():
        if task not in get_args(Task):
            hints = did_you_mean(task, get_args(Task)) or (f"tasks: {', '.join(get_args(Task))}",)
            raise UserError(f"no task is called `{task}`", hints=hints)
    return Measure(**{name: value for name, value in given.items() if value is not None})


def _factor_of(reader: _Reader, text: str, number: int) -> Factor | None:
    """The factor of one `--vary`."""
    path, equals, values = text.partition("=")
    whole = reader.source.span(number, 1)
    if not path or not equals or not values:
        reader.refuse(f"`{text}` varies nothing", whole, "--vary 'path=first|second', or 'path=log(1e-4, 1e-2)'")
        return None
    key = Scalar(path, reader.source.span(number, 1, len(path) + 1), source=reader.source)
    column = len(path) + 2
    if "|" not in values and is_range(values):
        return reader.drawn(key, Scalar(values, reader.source.span(number, column), source=reader.source))
    levels: list[Level] = []
    for value in values.split("|"):
        scalar = Scalar(value, reader.source.span(number, column, column + max(len(value), 1)), source=reader.source)
        column += len(value) + 1
        if not value.strip():
            reader.refuse(f"a value of `{path}` is empty", scalar.span)
            return None
        levels.append(Level(value, scalar.span, (Word.setting(key, scalar),)))
    if len(levels) < 2:
        reader.refuse(f"`{path}` has one value: nothing varies", whole, f"--vary '{path}={values}|another'")
        return None
    reader.twice(path, levels)
    return Factor(path, key, tuple(levels))


def _names_a_blueprint(words: Sequence[Word]) -> bool:
    return any(not word.is_override for word in words)


def _chooses_a_blueprint(factor: Factor) -> bool:
    """Does every level of it name a blueprint, so that the base need not?"""
    return bool(factor.levels) and all(_names_a_blueprint(level.words) for level in factor.levels)


def _alike(name: str) -> str:
    """Give names that a reader cannot tell apart, such as those with a ligature, as one."""
    return unicodedata.normalize("NFKC", name)
