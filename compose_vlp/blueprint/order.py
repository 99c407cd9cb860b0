"""The order of files: depth first, parents before children, each once, at its first mention."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compose_vlp.blueprint.document import as_items
from compose_vlp.blueprint.locate import LIBRARY, display_name, locate
from compose_vlp.blueprint.nodes import Mapping, Scalar
from compose_vlp.blueprint.reader import Reading, read_file
from compose_vlp.blueprint.structure import check_structure
from compose_vlp.errors import Problem, Span, UserError


@dataclass(frozen=True)
class File:
    """One file of an order. `mention` is where it was asked for; `whole` is false where reading lost a part of it.

    `lost` are the names of entries that were left out; `clear` is false where more is missing than these.
    """

    path: Path
    label: str
    root: Mapping
    mention: Span
    whole: bool
    lost: frozenset[str] = frozenset()
    clear: bool = True

    @property
    def stem(self) -> str:
        """The name that it gives itself, or its file's."""
        named = self.root.get("name")
        return named.text if isinstance(named, Scalar) else self.path.stem

    @property
    def is_task(self) -> bool:
        """A mix-in that clears another blueprint's losses or outputs, and has no model of its own."""
        dropped = (
            pattern.text.split(".")[0] for pattern in as_items(self.root.get("drop")) if isinstance(pattern, Scalar)
        )
        return "extends" not in self.root and any(section in ("losses", "outputs") for section in dropped)


@dataclass
class Order:
    """The files in order, with what was wrong on the way; `broken` where merging them would only repeat it."""

    files: list[File] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    broken: bool = False


def order_files(mentions: Sequence[Scalar], library: Path = LIBRARY) -> Order:
    """Read the blueprints named on the command line and all that they extend."""
    walk = _Walk(library)
    walk.visit(mentions, None, ())
    walk.refuse_second_task()
    return walk.order


class _Walk:
    def __init__(self, library: Path) -> None:
        self.library = library
        self.order = Order()
        self.places: dict[Path, int] = {}

    def visit(self, mentions: Sequence[Scalar], beside: Path | None, above: tuple[Path, ...]) -> None:
        """Visit what one list names, then see that the order which came out is the list's."""
        visited: list[tuple[Path, Scalar]] = []
        for mention in mentions:
            try:
                path = locate(mention.text, mention.span, beside, self.library)
                self._file(path, mention.span, above)
            except UserError as error:
                self._fail(*error.problems)
                continue
            visited.append((path, mention))
        for (path, earlier), (later_path, later) in itertools.pairwise(visited):
            if path == later_path:
                self._fail(Problem(f"`{later.text}` is named twice", later.span, related=(("first", earlier.span),)))
            elif self.places.get(path, 0) > self.places.get(later_path, 0) and later_path not in above:
                message = f"`{later.text}` comes before `{earlier.text}`, which is built on it"
                hint = f"name `{later.text}` first, or leave it out"
                self._fail(Problem(message, later.span, (hint,)))

    def _file(self, path: Path, mention: Span, above: tuple[Path, ...]) -> None:
        if path in above:
            chain = " -> ".join(file.stem for file in (*above[above.index(path) :], path))
            self._fail(Problem(f"a blueprint cannot extend itself: {chain}", mention))
            return
        if path in self.places:
            return
        label = display_name(path)
        reading = read_file(path, label)
        self.order.readings.append(reading)
        structure = check_structure(reading.root)
        self.order.problems += [*reading.problems, *structure.problems]
        self.order.broken |= not reading.whole and not reading.root.entries
        parents = [name for name in as_items(structure.root.get("extends")) if isinstance(name, Scalar)]
        self.visit(parents, path, (*above, path))
        self.places[path] = len(self.order.files)
        whole = reading.whole and not structure.problems
        clear = reading.whole and structure.clear
        self.order.files.append(File(path, label, structure.root, mention, whole, structure.lost, clear))

    def refuse_second_task(self) -> None:
        tasks: list[File] = []
        for file in self.order.files:
            tasks += [file] if file.is_task else []
        for second in tasks[1:]:
            message = f"`{second.stem}` is a second task: it would clear what `{tasks[0].stem}` asks for"
            self._fail(Problem(message, second.mention, ("one task at a time",), (("first", tasks[0].mention),)))

    def _fail(self, *problems: Problem) -> None:
        self.order.problems += problems
        self.order.broken = True
