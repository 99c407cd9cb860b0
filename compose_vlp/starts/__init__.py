"""Files to start from: a blueprint over another, a sweep of one, a component; each checks as it is written.

The components beside this file are real ones, which the house's own lint, types and tests go through. They are read as
text and never imported; `start_name`, `StartName` and `start_file` stand for what the user calls them.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from compose_vlp.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from compose_vlp.blueprint.document import Document
    from compose_vlp.graph.graph import CheckedBlueprint

FOLDER: Final = Path(__file__).parent
COMPONENTS: Final = tuple(sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "__init__"))
"""What a component's start can be of."""
ABOUT: Final = {
    "params": "Numbers that others name as $NAME, and their schedules",
    "inputs": "What a record gives: sizes, cleaning, augmentation",
    "components": "The parts; `compose-vlp components KIND` explains one",
    "losses": "What is lowered; `weight: 0` leaves one out",
    "data": "Where records come from; `compose-vlp data FOLDER` prints the line for yours",
    "stages": "How long, on what, with which losses",
}
"""The sections that a start shows, and what each is for."""


def blueprint(name: str, base: str) -> str:
    """Return a blueprint that means what `base` means, with what may be changed in comments.

    Raises:
        UserError: `base` has mistakes, or there is none.
    """
    document, _ = _checked(base)
    title = f"{_title(document, base)}, changed"
    lines = [
        f"# {name}: {title}.",
        "#",
        "# What stands here is laid over what it extends. Take the # away before a line, and change it.",
        f"#   compose-vlp check {name}.yaml",
        f"#   compose-vlp diff {base} {name}.yaml",
        f"#   compose-vlp train {name}.yaml",
        f"extends: {base}",
        f"name: {name}",
        f"title: {json.dumps(title, ensure_ascii=False)}",
    ]
    return "\n".join([*lines, *_sections(document)]) + "\n"


def sweep(name: str, base: str) -> str:
    """Return a sweep that trains `base` with and without each of its losses.

    Raises:
        UserError: `base` has mistakes, or no two losses to do without.
    """
    _, graph = _checked(base)
    last = list(graph.stages.values())[-1] if graph.stages else None
    losses = list(last.losses) if last else []
    if last is None or len(losses) < 2:
        raise UserError(f"`{base}` has no two losses in its last stage: a start needs something to do without")
    factors = [line for loss in losses for line in (f"  {loss}:", "    on: []", f"    off: [losses.{loss}.weight=0]")]
    return "\n".join(
        [
            f"# {name}: what is each loss of {base} worth?",
            "#",
            f"#   compose-vlp sweep {name}.yaml --dry-run    checks and lists all cells",
            f"#   compose-vlp sweep {name}.yaml              trains what is not trained yet",
            f"#   compose-vlp report {name}                  the table, with intervals",
            f"sweep: {name}",
            f"base: {base}",
            "# A factor has levels, each a list of changes as on a command line; the first level is the baseline.",
            "vary:",
            *factors,
            "design: one_at_a_time    # or grid, fraction, search",
            "seeds: 3",
            f"measure: {{data: {last.data}}}",
            "# budget: {steps: 700}    # the same for every cell; or flops, or minutes",
        ]
    ) + "\n"  # fmt: skip


def component(name: str, sort: str, file: Path) -> str:
    """Return a component's file, `sort` being one of `COMPONENTS`, with the command that tries it.

    Raises:
        UserError: there is no such start, or the name is none for Python.
    """
    if sort not in COMPONENTS:
        hints = (*did_you_mean(sort, COMPONENTS), f"starts: {', '.join(COMPONENTS)}")
        raise UserError(f"there is no start of a component called {sort!r}", hints=hints)
    text = (FOLDER / f"{sort}.py").read_text(encoding="utf-8")
    words = {"start_name": name, "StartName": name.title().replace("_", ""), "start_file": str(file)}
    for placeholder, word in words.items():
        text = text.replace(placeholder, word)
    return text


def trial(sort: str, name: str, file: Path) -> str:
    """Return the command that a component's start is tried with, as its file says."""
    line = re.search("^Try it: (.+)$", component(name, sort, file), re.MULTILINE)
    assert line is not None, "every start says how it is tried"
    return line[1]


def check_name(name: str) -> None:
    """Raise where a name is none that blueprints, kinds and files can have."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"{name!r} is no name to start with",
            hints=[
                "a name has small letters, digits and `_`, begins with a letter, and is no word of Python: `my_albef`"
            ],
        )


def _checked(base: str) -> tuple[Document, CheckedBlueprint]:
    """Read a blueprint, and hold it to be right."""
    from compose_vlp.api import Blueprint

    loaded = Blueprint.load(base)
    return loaded.document, loaded.check()


def _title(document: Document, base: str) -> str:
    from compose_vlp.blueprint.nodes import Scalar

    titles = (entry.value for entry in document.root if entry.name == "title")
    return next((title.text for title in titles if isinstance(title, Scalar)), base)


def _sections(document: Document) -> Iterator[str]:
    """Comments with what may be changed, each entry as a line that has its present value."""
    from compose_vlp.blueprint.nodes import Mapping
    from compose_vlp.blueprint.write import on_one_line

    entries = {entry.name: entry.value for entry in document.root}
    for section, words in ABOUT.items():
        values = entries.get(section)
        if isinstance(values, Mapping) and values:
            yield from ("", f"# {words}.", f"# {section}:")
            yield from (f"#   {on_one_line(entry)}" for entry in values)
