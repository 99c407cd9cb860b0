"""A hook of mkdocs that writes a page for each notebook, and the reader of notebooks that the page and the tests share.

A code cell is Python, `%%bash`, or `%%writefile NAME`. No notebook is kept with outputs: the tests run each one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

NOTEBOOKS = Path(__file__).resolve().parent / "notebooks"

Kind: TypeAlias = Literal["markdown", "python", "bash", "file"]


@dataclass(frozen=True)
class Cell:
    """A cell without its magic line; `file` is the name under which a `file` cell is saved."""

    kind: Kind
    body: str
    file: str = ""


def cells(notebook: Path) -> list[Cell]:
    """Read a notebook.

    Raises:
        ValueError: another format of notebooks, an output or a count that was kept, a magic line that is not known.
    """
    document = json.loads(notebook.read_text(encoding="utf-8"))
    if document["nbformat"] != 4:
        raise ValueError(f"{notebook.name}: notebooks of format 4 are read, this one has {document['nbformat']}")
    return [_cell(notebook.name, number, cell) for number, cell in enumerate(document["cells"], 1)]


def _cell(name: str, number: int, cell: dict[str, object]) -> Cell:
    source = cell["source"]
    text = (source if isinstance(source, str) else "".join(map(str, source if isinstance(source, list) else ()))) + "\n"
    if cell["cell_type"] == "markdown":
        return Cell("markdown", text)
    if cell["cell_type"] != "code" or cell.get("outputs") or cell.get("execution_count"):
        raise ValueError(f"{name}, cell {number}: a cell of code without outputs was expected; clear them all and save")
    first, _, rest = text.partition("\n")
    magic, _, argument = first.partition(" ")
    if first == "%%bash":
        return Cell("bash", rest)
    if magic == "%%writefile" and argument:
        return Cell("file", rest, argument)
    if any(line.startswith(("%", "!")) for line in text.splitlines()):
        raise ValueError(
            f"{name}, cell {number}: of magic, `%%bash` and `%%writefile NAME` are known, on the first line"
        )
    return Cell("python", text)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; the notebooks themselves stand beside them, to be taken."""
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=page(notebook)))
    return files


def page(notebook: Path) -> str:
    """Write a notebook as a page: its cells in order, after the title a link to the notebook."""
    return "\n".join(_parts(notebook))


def _parts(notebook: Path) -> Iterator[str]:
    title, *others = cells(notebook)
    heading, _, rest = title.body.partition("\n")
    yield f"{heading}\n\n[This page as a notebook]({notebook.name}){{ download }}, which the tests run."
    yield _linked(rest)
    for cell in others:
        if cell.kind == "markdown":
            yield _linked(cell.body)
        elif cell.kind == "file":
            yield f'```{Path(cell.file).suffix[1:]} title="{cell.file}"\n{cell.body}```\n'
        else:
            yield f"```{cell.kind}\n{cell.body}```\n"


def _linked(text: str) -> str:
    """Links between notebooks as links between their pages."""
    return text.replace(".ipynb)", ".md)")
