"""A hook of mkdocs that writes the page of the hybrids, each with the question of its header and its picture."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

BLUEPRINTS = Path(__file__).resolve().parent.parent / "blueprints"

INTRODUCTION = """\
# Hybrids

Parts of one paper put into another, each a blueprint of some forty lines over the one that it extends. A
[sweep](sweeps.md) whose levels are the blueprint with and without it asks what such a part is worth; `compose-vlp diff`
prints what it changes.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page and its pictures."""
    from compose_vlp.api import Blueprint
    from compose_vlp.picture import diagram_of, svg

    sections = [INTRODUCTION]
    for path in sorted((BLUEPRINTS / "hybrids").glob("*.yaml")):
        sections.append(section(path))
        picture = svg(diagram_of(Blueprint.load(path).check()))
        files.append(File.generated(config, f"pictures/{path.stem}.svg", content=picture))
    files.append(File.generated(config, "hybrids.md", content="\n".join(sections)))
    return files


def section(path: Path) -> str:
    """Write what the page says of a hybrid: title, question, what its header tells, its commands and its picture."""
    text = path.read_text(encoding="utf-8")
    header = [line.removeprefix("#").strip() for line in text.splitlines()[1:] if line.startswith("#")]
    title = re.search(r"^title: (.*)$", text, re.MULTILINE)
    commands = [line for line in header if line.startswith("compose-vlp")]
    prose = [line for line in header if line not in commands]
    name = f"hybrids/{path.stem}"
    shown = "\n".join(["```bash", *commands, "```"])
    assert title is not None, f"{path} has no title"
    question, picture = "\n".join(prose).strip(), f"![the graph of {name}](pictures/{path.stem}.svg)"
    return f"## {title[1]}\n\n`{name}`. {question}\n\n{shown}\n\n{picture}\n"
