"""The built-in kinds by name, read off the files' syntax: nothing is imported for a list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from compose_vlp.graph.kinds import Category
from compose_vlp.protocols import RUNTIME_ARGUMENTS

DECORATORS: Final[Mapping[str, Category]] = {
    "component": "component",
    "loss": "loss",
    "function": "function",
    "fills": "slot",
    "adapter": "adapter",
    "tokenizer": "tokenizer",
    "source": "source",
}
_DECLARES: Final = re.compile(rf"^@({'|'.join(DECORATORS)})\(|^class \w+Settings\(", re.MULTILINE)
"""Only files with such a line are parsed."""


@dataclass(frozen=True)
class Listing:
    """What a scan of a file says of a kind, without importing it."""

    name: str
    category: str
    module: str
    fields: frozenset[str]
    summary: str
    slot: str = ""


@cache
def catalogue() -> Mapping[str, Listing]:
    """Every built-in kind by name, read off the files' syntax: imports nothing."""
    here = Path(__file__).parent
    roots = ((here / "components", "compose_vlp.components"), (here / "data" / "sources", "compose_vlp.data.sources"))
    trees: dict[str, ast.Module] = {}
    for root, package in roots:
        for file in sorted(root.rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if _DECLARES.search(text):
                relative = file.relative_to(root).with_suffix("")
                trees[".".join((package, *relative.parts)).removesuffix(".__init__")] = ast.parse(text)
    shared = _shared_settings(trees.values())
    return {listing.name: listing for module, tree in trees.items() for listing in _listings(tree, module, shared)}


def _shared_settings(trees: Iterable[ast.Module]) -> dict[str, frozenset[str]]:
    """Collect the fields of models of settings that several kinds extend, by name: classes that end in `Settings`."""
    classes = {
        node.name: node
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Settings")
    }

    def fields(name: str) -> frozenset[str]:
        if name not in classes:
            return frozenset()
        bases = {base.id: fields(base.id) for base in classes[name].bases if isinstance(base, ast.Name)}
        return _fields(classes[name], bases)

    return {name: fields(name) for name in classes}


def _listings(tree: ast.Module, module: str, shared: Mapping[str, frozenset[str]]) -> Iterator[Listing]:
    """List the kinds that a source file declares at its top level."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            if not (isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id in DECORATORS):
                continue
            if mark.args and isinstance(mark.args[0], ast.Constant):
                summary = (ast.get_docstring(node) or "").split("\n")[0]
                fields = _config_fields(node, shared)
                fields |= _forward_arguments(node) if mark.func.id == "loss" else frozenset()
                slots = [k.value.value for k in mark.keywords if k.arg == "slot" and isinstance(k.value, ast.Constant)]
                slot = str(slots[0]) if slots else ""
                yield Listing(str(mark.args[0].value), DECORATORS[mark.func.id], module, fields, summary, slot)


def _config_fields(node: ast.AST, shared: Mapping[str, frozenset[str]]) -> frozenset[str]:
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.ClassDef) and inner.name == "Config":
            return _fields(inner, shared)
    return frozenset()


def _fields(node: ast.ClassDef, shared: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Collect the annotated names of a class, with those of the settings that it extends."""
    own = {s.target.id for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)}
    bases = (shared.get(base.id, frozenset()) for base in node.bases if isinstance(base, ast.Name))
    return frozenset(own).union(*bases)


def _forward_arguments(node: ast.AST) -> frozenset[str]:
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.FunctionDef) and inner.name == "forward":
            return frozenset(argument.arg for argument in inner.args.args) - {"self", *RUNTIME_ARGUMENTS}
    return frozenset()
