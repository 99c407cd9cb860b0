"""Inherited patterns and stages' lists shrink when what they name is gone; a file's own must name something."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from fnmatch import fnmatchcase

from compose_vlp.blueprint.document import NAME, Removed, as_items
from compose_vlp.blueprint.nodes import Entry, Items, Mapping, Node, Scalar
from compose_vlp.blueprint.state import State, line
from compose_vlp.blueprint.trees import Path, dotted, find, put, without
from compose_vlp.errors import Problem, did_you_mean

Keep = Callable[[Node], bool]


def shrink_lists(state: State, label: str) -> bool:
    """Take out of lists that `label` did not write what names nothing any more; whether anything was."""
    before = state.root
    heads = _heads(state.root)
    for path, keep in _lists(state.root, heads):
        _shrink(state, path, label, keep)
    for name in _names(state.root, "stages"):
        entry = find(state.root, ("stages", name, "losses"))
        if entry is not None and not as_items(entry.value):
            stage = find(state.root, ("stages", name))
            assert stage is not None, "its losses were just found"
            state.remove(Removed("stages", name, stage.key.span, label))
            state.notes.append(f"{label} leaves no loss to stage `{name}` ({line(stage.key.span)}): it is gone")
    return state.root is not before


def judge_lists(state: State, label: str) -> None:
    """Report what a file writes into a pattern or a stage's list that names nothing."""
    heads = _heads(state.root)
    for path, keep in _lists(state.root, heads):
        entry = find(state.root, path)
        for item in _alone(as_items(entry.value) if entry else ()):
            if item.span.file == label and not keep(item):
                state.problems += _names_nothing(state, item, path, heads)
    for name, losses in empty_stages(state.root):
        if losses.span.file == label:
            known = ", ".join(_names(state.root, "losses")) or "none"
            hint = f"losses: {known}; a stage that is not wanted is dropped: `drop: [stages.{name}]`"
            state.problems.append(Problem(f"stage `{name}` has no losses, so it trains nothing", losses.span, (hint,)))


def empty_stages(root: Mapping) -> Iterator[tuple[str, Items]]:
    """The stages whose list of losses has nothing in it, with that list."""
    for name in _names(root, "stages"):
        entry = find(root, ("stages", name, "losses"))
        if entry is not None and isinstance(entry.value, Items) and not entry.value.items:
            yield name, entry.value


def _names_nothing(state: State, item: Node, path: Path, heads: Collection[str]) -> Iterator[Problem]:
    if path[-1] == "losses" and isinstance(item, Scalar):
        losses = _names(state.root, "losses")
        gone = state.gone(item.text, ["losses"])
        hints = (str(gone),) if gone else did_you_mean(item.text, losses)
        yield Problem(
            f"no loss is called `{item.text}`", item.span, hints or (f"losses: {', '.join(losses) or 'none'}",)
        )
        return
    if path[-1] == "recompute" and isinstance(item, Scalar):
        yield not_recomputed(item, _names(state.root, "components"))
        return
    for pattern in _patterns(item):
        if not _may_match_one(pattern.text, heads):
            first, *rest = pattern.text.split(".")
            what, name = ("loss", rest[0]) if first == "losses" and rest else ("component", first)
            near = did_you_mean(f"losses.{name}" if what == "loss" else name, heads)
            hints = near or ("a pattern begins with a component, a teacher, `losses`, or `**`",)
            yield Problem(f"`{pattern.text}` matches nothing: no {what} is called `{name}`", pattern.span, hints)


def not_recomputed(item: Scalar, components: Collection[str]) -> Problem:
    """A name in `recompute` that no component has."""
    hints = did_you_mean(item.text, components) or (f"components: {', '.join(components)}",)
    return Problem(f"`recompute` names no component: `{item.text}`", item.span, hints)


def may_match(pattern: str, head: str) -> bool:
    """Tell whether a pattern may name a parameter below `head`, a component, a teacher or `losses.NAME`."""
    for part, name in zip(pattern.split("."), head.split("."), strict=False):
        if part == "**":
            return True
        if not fnmatchcase(name, part):
            return False
    return True


def covers(pattern: str, head: str) -> bool:
    """Tell whether a pattern names all that lies below `head`."""
    parts = pattern.removesuffix(".**").split(".")
    return parts == ["**"] or (len(parts) <= len(head.split(".")) and may_match(pattern, head) and "**" not in parts)


def _lists(root: Mapping, heads: Collection[str]) -> Iterator[tuple[Path, Keep]]:
    """Every list that names components or losses, with what of it still means something."""
    losses, components = _names(root, "losses"), _names(root, "components")
    for above in [(), *(("stages", name) for name in _names(root, "stages"))]:
        for key in ("train", "freeze"):
            yield (*above, key), lambda item: _speaks(item, heads)
        yield (*above, "recompute"), lambda item: _recomputes(item, components)
        yield (*above, "optimizer", "rules"), lambda item: _speaks(item, heads)
        yield (*above, "optimizer", "layer_decay", "order"), lambda item: _speaks(item, heads)
        if above:
            yield (*above, "losses"), lambda item: not isinstance(item, Scalar) or item.text in losses
    yield ("start",), lambda item: _speaks(item, heads)
    for name in _names(root, "adapters"):
        for key in ("match", "except"):
            yield ("adapters", name, key), lambda item: _speaks(item, heads)


def _speaks(item: Node, heads: Collection[str]) -> bool:
    patterns = _patterns(item)
    return not patterns or any(_may_match_one(pattern.text, heads) for pattern in patterns)


def _recomputes(item: Node, components: Collection[str]) -> bool:
    """Tell whether an item of `recompute` names a component; an amount of memory, and all else, is for who reads it."""
    return not isinstance(item, Scalar) or not NAME.match(item.text) or item.text in components


def _may_match_one(pattern: str, heads: Collection[str]) -> bool:
    """Tell whether a pattern may name something; `**` may even in a file without components: a child may add some."""
    return pattern.startswith("**") or any(may_match(pattern, head) for head in heads)


def _patterns(item: Node) -> list[Scalar]:
    """The patterns of an item: itself, its own items, a rule's `match`, the `to` or `new` of where weights start."""
    if isinstance(item, Items):
        return [pattern for pattern in item if isinstance(pattern, Scalar)]
    if isinstance(item, Mapping):
        fields = [as_items(item.get(key)) for key in ("match", "to", "new")]
        return [node for field in fields for node in field if isinstance(node, Scalar)]
    return [item]


def _heads(root: Mapping) -> list[str]:
    losses = [f"losses.{name}" for name in _names(root, "losses")]
    return [*_names(root, "components"), *_names(root, "teachers"), *losses]


def _names(root: Mapping, section: str) -> tuple[str, ...]:
    entries = root.get(section)
    return entries.names if isinstance(entries, Mapping) else ()


def _alone(items: Iterable[Node]) -> Iterator[Node]:
    """The items, and in place of a list in the list what stands in it."""
    for item in items:
        yield from item if isinstance(item, Items) else (item,)


def _kept(item: Node, label: str, keep: Keep) -> Node:
    """The item; of a list in the list (what stands beside each other) what still names something."""
    if not isinstance(item, Items) or item.span.file == label:
        return item
    return Items(tuple(child for child in item if keep(child)), item.span)


def _shrink(state: State, path: Path, label: str, keep: Keep) -> None:
    entry = find(state.root, path)
    if entry is None or isinstance(entry.value, Mapping):
        return
    items = as_items(entry.value)
    kept = tuple(_kept(item, label, keep) for item in items if item.span.file == label or keep(item))
    if kept == items:
        return
    left = {pattern.span for pattern in _alone(kept)}
    gone = [item for item in _alone(items) if item.span not in left]
    if gone:
        words = " ".join(f"`{pattern.text}`" for item in gone for pattern in _patterns(item))
        they_are = "it is" if len(gone) == 1 else "they are"
        state.notes.append(
            f"{label} leaves {words} of `{dotted(path)}` ({line(gone[0].span)}) nothing to name: {they_are} gone"
        )
    if path[-1] == "train" and not kept:
        hint = "write `train` anew, or drop it to train everything"
        state.problems.append(Problem(f"nothing is left of `{dotted(path)}` in {label}", entry.value.span, (hint,)))
    if kept or path[-1] == "losses":
        state.root = put(state.root, path, Entry(entry.key, Items(kept, entry.value.span), entry.earlier))
    elif path[-1] == "match":
        adapter = find(state.root, path[:-1])
        assert adapter is not None, "its patterns were just found"
        state.remove(Removed("adapters", path[1], adapter.key.span, label))
        state.notes.append(
            f"{label} leaves no linear map to adapter `{path[1]}` ({line(adapter.key.span)}): it is gone"
        )
    else:
        state.root = without(state.root, path)
