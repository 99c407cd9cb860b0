"""Trees of nodes are never changed: these functions give the tree with one entry put in, or taken out."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar

Path = tuple[str, ...]
"""The keys from the root to a value: `("components", "vision", "depth")`."""


def dotted(path: Path) -> str:
    """The path as people write it."""
    return ".".join(path)


def find(root: Mapping, path: Path) -> Entry | None:
    """The entry at `path`, if there is one."""
    node: Node | None = root
    entry = None
    for name in path:
        entry = node.entry(name) if isinstance(node, Mapping) else None
        node = entry.value if entry else None
    return entry


def put(root: Mapping, path: Path, entry: Entry) -> Mapping:
    """`root` with `entry` at `path`, in the place of one that is there, else at the end; mappings above are made."""
    name, rest = path[0], path[1:]
    if rest:
        above = root.entry(name)
        inner = above.value if above and isinstance(above.value, Mapping) else Mapping((), entry.key.span)
        key = above.key if above else Scalar(name, entry.key.span)
        entry = Entry(key, put(inner, rest, entry), above.earlier if above else None)
    if name in root:
        return Mapping(tuple(entry if child.name == name else child for child in root), root.span)
    return Mapping((*root.entries, entry), root.span)


def without(root: Mapping, path: Path) -> Mapping:
    """`root` without the entry at `path`; a section that this empties goes too."""
    name, rest = path[0], path[1:]
    above = root.entry(name)
    if above is None:
        return root
    if rest and isinstance(above.value, Mapping):
        inner = without(above.value, rest)
        if inner.entries or len(path) > 2:
            return put(root, (name,), Entry(above.key, inner, above.earlier))
    return Mapping(tuple(child for child in root if child.name != name), root.span)


def paths(root: Mapping, depth: int | None = None) -> Iterator[Path]:
    """The paths of all entries below `root`, of one depth or of all; keys of lists' mappings have none."""
    for entry in root:
        if depth is None or depth == 1:
            yield (entry.name,)
        if isinstance(entry.value, Mapping) and (depth is None or depth > 1):
            below = paths(entry.value, None if depth is None else depth - 1)
            yield from ((entry.name, *path) for path in below)


def matching(root: Mapping, pattern: str) -> list[Path]:
    """The paths that a pattern such as `losses.*` or `components.vision.depth` matches, segment by segment."""
    parts = pattern.split(".")
    return [path for path in paths(root, len(parts)) if all(map(fnmatchcase, path, parts))]


def scalars(node: Node) -> Iterator[Scalar]:
    """All values below `node`, keys aside."""
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Items):
        for item in node:
            yield from scalars(item)
    else:
        for entry in node:
            yield from scalars(entry.value)
