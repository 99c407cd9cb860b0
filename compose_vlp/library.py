"""The built-in blueprints by group, with what their headers say; read off the files, so that a list is instant."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from compose_vlp.blueprint.locate import LIBRARY, SWEEPS, builtin_names

GROUPS: Final = {
    "": "Models",
    "tiny": "Small siblings, for a processor",
    "hybrids": "Hybrids",
    "tasks": "Tasks, laid over a model",
    "tasks/": "Tasks as a paper's authors fine-tune them",
    "tiny/tasks": "Tasks, small",
    "sweeps": "Sweeps",
}
"""Title by group: the folder, `tasks/` for all folders of papers below it."""

_SETTING: Final = re.compile(r"^(name|title|paper|extends|question): *(.+?)(?: +#.*)?$", re.MULTILINE)
_SENTENCE: Final = re.compile(r"(?<!\bal\.)(?<=[.?!])\s")


@dataclass(frozen=True)
class Listing:
    """What a list says of a blueprint: `header` is the comment that it opens with, without commands' indentation."""

    name: str
    header: str
    settings: dict[str, str]

    @property
    def group(self) -> str:
        folder = self.name.rpartition("/")[0]
        return "tasks/" if folder.startswith("tasks/") else folder

    @property
    def is_model(self) -> bool:
        """Tell whether it stands by itself: a task is laid over a model, a sweep trains one."""
        return self.group in ("", "tiny", "hybrids")

    @property
    def summary(self) -> str:
        """Give the first sentence of its header."""
        first = self.header.split("\n\n")[0].replace("\n", " ")
        return _SENTENCE.split(first, maxsplit=1)[0]

    @property
    def parents(self) -> list[str]:
        """Name what it extends, by the names of the library: a path beside it is read from its folder."""
        written = re.findall(r"[^\s,\[\]\"']+", self.settings.get("extends", ""))
        folder = posixpath.dirname(self.name)
        return [
            posixpath.normpath(posixpath.join(folder, parent)).removesuffix(".yaml")
            if parent.startswith(".")
            else parent.removesuffix(".yaml")
            for parent in written
        ]

    def as_json(self) -> dict[str, Any]:
        """Describe it for a script."""
        known = {key: self.settings.get(key) for key in ("title", "paper")}
        group = GROUPS.get(self.group, self.group)
        return {"name": self.name, "group": group, "summary": self.summary, **known, "extends": self.parents}


def listings(library: Path = LIBRARY) -> list[Listing]:
    """List every file of the library, groups in their order, by name within one."""
    sweeps = [f"{SWEEPS}{file.stem}" for file in (library / SWEEPS).glob("*.yaml")]
    entries = [listing(name, library) for name in (*builtin_names(library), *sorted(sweeps))]
    order = list(GROUPS)
    return sorted(entries, key=lambda entry: order.index(entry.group) if entry.group in order else len(order))


def listing(name: str, library: Path = LIBRARY) -> Listing:
    """Read what a built-in file says of itself."""
    text = (library / f"{name}.yaml").read_text(encoding="utf-8")
    lines = text.split("\n")
    start = 1 if lines[0].startswith("# yaml-language-server") else 0
    end = next((i for i in range(start, len(lines)) if not lines[i].startswith("#")), len(lines))
    header = "\n".join(line.removeprefix("#").removeprefix(" ").rstrip() for line in lines[start:end])
    settings = {match[1]: match[2].strip("\"'") for match in _SETTING.finditer(text)}
    return Listing(name, header.strip(), settings)


def extending(name: str, library: Path = LIBRARY) -> list[str]:
    """Name the built-in files that extend a blueprint, themselves or through others."""
    parents = {entry.name: entry.parents for entry in listings(library)}

    def reaches(child: str, seen: frozenset[str]) -> bool:
        above = [parent for parent in parents.get(child, ()) if parent not in seen]
        return name in above or any(reaches(parent, seen | {child}) for parent in above)

    return [child for child in parents if child != name and reaches(child, frozenset({child}))]
