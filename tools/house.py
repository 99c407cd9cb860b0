"""Measure how the house is built: files, circles of imports, files to open for one tower, hooks written by hand.

`python tools/house.py` prints the figures that `docs/decisions` quotes. Every import counts: those in functions and
those for type checkers, too.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grimp
import networkx as nx

Graph: TypeAlias = "nx.DiGraph[str]"

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "compose_vlp"
COMPONENTS = f"{PACKAGE}.components"
TOWERS = ("decoders", "encoders", "fusers")
ATTENTION = f"{COMPONENTS}.attention"


@dataclass(frozen=True)
class Tower:
    """What one opens to understand a tower: its own file and all that it imports within `components/`.

    `files` are those of layers and towers; `attention` those behind the function `attend`, which has one signature
    whatever computes it.
    """

    name: str
    files: tuple[str, ...]
    attention: tuple[str, ...]


def import_graph(package: str = PACKAGE) -> Graph:
    """Every module of a package, with an edge to each that it imports."""
    imports = grimp.build_graph(package, cache_dir=None)
    graph: Graph = nx.DiGraph()
    graph.add_nodes_from(imports.modules)
    graph.add_edges_from(
        (module, imported)
        for module in imports.modules
        for imported in imports.find_modules_directly_imported_by(module)
    )
    return graph


def circles(graph: Graph) -> list[list[str]]:
    """The sets of modules each of which reaches every other by imports."""
    groups = nx.strongly_connected_components(graph)
    return sorted(sorted(group) for group in groups if len(group) > 1)


def sources(root: Path = ROOT) -> list[Path]:
    """The Python files of the package, those of components included, without files that hold no code."""
    folders = (root / PACKAGE, root / "components")
    files = (file for folder in folders for file in sorted(folder.rglob("*.py")) if "blueprints" not in file.parts)
    own = dict.fromkeys(file.resolve() for file in files)
    return [file for file in own if file.name != "__init__.py" or len(ast.parse(file.read_text("utf-8")).body) > 1]


def single_importers(graph: Graph) -> list[str]:
    """Modules that one other module imports, and no more."""
    return sorted(module for module in graph if graph.in_degree(module) == 1 and "__" not in module)


def repeated_names(files: Iterable[Path]) -> list[str]:
    """File names that stand in more than one folder."""
    counts = Counter(file.name for file in files if not file.name.startswith("__"))
    return sorted(name for name, count in counts.items() if count > 1)


def towers(graph: Graph) -> list[Tower]:
    """Every tower of this project's own layers, with the files to open for it."""
    own = [module for module in graph if module.startswith(tuple(f"{COMPONENTS}.{folder}." for folder in TOWERS))]
    return [_tower(graph, module) for module in sorted(own)]


def _tower(graph: Graph, module: str) -> Tower:
    inner = graph.subgraph(name for name in graph if name.startswith(COMPONENTS))
    reached = sorted(nx.descendants(inner, module) | {module})
    behind = tuple(name for name in reached if name.startswith(ATTENTION))
    return Tower(module, tuple(name for name in reached if name not in behind), behind)


def hooks(root: Path = ROOT) -> dict[str, list[str]]:
    """Find where a kind's result or its settings are judged by code of its own: classes and functions by hook."""
    owners: dict[str, list[str]] = {"output": [], "check": [], "check_batch": [], "describe": []}
    for file in sorted((root / "components").rglob("*.py")):
        for owner, name in _defined(ast.parse(file.read_text("utf-8"))):
            if name in owners:
                owners[name].append(f"{file.relative_to(root)}: {owner}")
    return owners


def _defined(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Methods of kinds by class, and the functions that `@function(output=...)` names."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            static = (item for item in node.body if isinstance(item, ast.FunctionDef) and item.decorator_list)
            yield from ((node.name, item.name) for item in static)
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            calls = (call for call in node.decorator_list if isinstance(call, ast.Call))
            yield from ((node.name, word.arg) for call in calls for word in call.keywords if word.arg)


def main() -> None:
    """Print all figures."""
    graph, files = import_graph(), sources()
    lines = [len(file.read_text("utf-8").splitlines()) for file in files]
    print(f"files                    {len(files)}")
    print(f"lines a file             {sum(lines) / len(lines):.0f} on average; {sum(n > 300 for n in lines)} over 300")
    print(f"circles of imports       {len(circles(graph))}: {sum(map(len, circles(graph)))} modules")
    print(f"single-importer modules  {len(single_importers(graph))}")
    print(f"repeated file names      {len(repeated_names(files))}")
    print("hooks                    " + ", ".join(f"{len(where)} {name}" for name, where in hooks().items()))
    print("files to open for a tower (and those behind `attend`)")
    for tower in towers(graph):
        print(f"  {tower.name.removeprefix(COMPONENTS + '.'):32} {len(tower.files):2} (+{len(tower.attention)})")


if __name__ == "__main__":
    main()
