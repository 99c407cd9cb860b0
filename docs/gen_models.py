"""A hook of mkdocs that writes the page of what is built in: README's table, lists by group, graphs of the papers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from compose_vlp.library import GROUPS, Listing, listings

README = Path(__file__).resolve().parent.parent / "README.md"
GALLERY = ("albef", "blip", "vlmo_base", "beit3_base", "clip")
"""Drawn for the page; CoCa's graph is a file of its own, which README shows as well."""

INTRODUCTION = """\
# Models, tasks, hybrids

What is built in. `compose-vlp blueprints` lists the same, and
`compose-vlp blueprints NAME --tasks` says which tasks fit a model.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page and its pictures."""
    from compose_vlp.api import Blueprint
    from compose_vlp.picture import diagram_of, svg

    for name in GALLERY:
        picture = svg(diagram_of(Blueprint.load(name).check()))
        files.append(File.generated(config, f"pictures/{name}.svg", content=picture))
    files.append(File.generated(config, "models.md", content=page()))
    return files


def page() -> str:
    """Write the page."""
    return "\n".join([INTRODUCTION, _table(), *_lists(), *_gallery()])


def _table() -> str:
    """Take README's table, whose figures a test holds to the blueprints."""
    text = README.read_text(encoding="utf-8")
    table = re.search(r"^## Models\n+((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None, "README has no table of models"
    return f"{table[1]}"


def _lists() -> Iterator[str]:
    entries = listings()
    for group, title in GROUPS.items():
        yield f"## {title}\n"
        yield from (_line(entry) for entry in entries if entry.group == group)
        yield ""


def _line(entry: Listing) -> str:
    paper = f" [Paper]({entry.settings['paper']})." if "paper" in entry.settings else ""
    return f"- `{entry.name}`: {entry.summary}{paper}"


def _gallery() -> Iterator[str]:
    yield "## Graphs\n\nAs `compose-vlp build` draws them. Those of the [hybrids](hybrids.md) stand on their page.\n"
    for name in ("coca", *GALLERY):
        yield f"### {name}\n\n![the graph of {name}](pictures/{name}.svg)\n"
