"""Tying the parts of components that a blueprint shares: my part -> another's part of the same place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from compose_vlp.errors import UserError
from compose_vlp.graph.kinds import Keys


class ShareError(UserError):
    """Parts that cannot be shared: `misfits` are (component, part as `share` has it, message)."""

    def __init__(self, misfits: Sequence[tuple[str, str, str]]) -> None:
        super().__init__("; ".join(message for _, _, message in misfits), hints=["shared parts have one shape"])
        self.misfits = tuple(misfits)


def tie(modules: Mapping[str, nn.Module], components: Mapping[str, Any]) -> None:
    """Replace shared parts by their owners', owners before those that share from them.

    Raises:
        ShareError: shapes of the two parts differ.
    """
    misfits: list[tuple[str, str, str]] = []
    for name in owners_first(components):
        part = components[name]
        share = dict(part.share)
        own = {mine for mine, source in share.items() if source == "own"}
        for mine, source in share.items():
            if source == "own":
                continue
            owner, _, part_name = source.partition(".")
            try:
                if mine == "*":
                    kept = own | (share.keys() - {"*"})
                    _share_all(name, modules[name], part.kind.parts, kept, owner, modules[owner])
                else:
                    pattern = components[owner].kind.parts[part_name or mine]
                    _replace(name, modules[name], part.kind.parts[mine], owner, modules[owner], pattern)
            except UserError as error:
                misfits.append((name, mine, error.problems[0].message))
    if misfits:
        raise ShareError(misfits)


def owners_first(components: Mapping[str, Any]) -> list[str]:
    """Names of the components that have weights, each after those from which it shares."""
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        for source in dict(components[name].share).values():
            if source != "own":
                visit(source.partition(".")[0])
        ordered.append(name)

    for name, part in components.items():
        if part.kind.category == "component":
            visit(name)
    return ordered


def keys_owner(name: str, components: Mapping[str, Any]) -> str:
    """The component whose parameters make the keys and values of a component's contexts: itself, or one that it shares
    them from.

    Another's are taken for equal only where both kinds declare by what they make them (`Keys`), and these are equal.
    """
    mine, share = keys_by(components[name]), dict(components[name].share)
    if mine is None:
        return name
    source = share.get(mine.part) or share.get("*", "own")
    owner, _, part = source.partition(".")
    if source == "own" or (part or mine.part) != mine.part or keys_by(components[owner]) != mine:
        return name
    patterns = components[name].kind.parts
    others = [patterns[other] for other in share if other in patterns and other != mine.part]
    if any(_overlap(patterns[mine.part], other) for other in others):
        return name  # a piece of the part comes from elsewhere
    return keys_owner(owner, components)


def _overlap(pattern: str, other: str) -> bool:
    """May a parameter be under both path patterns?"""
    pairs = zip(pattern.split("."), other.split("."), strict=False)
    return all(fnmatchcase(a, b) or fnmatchcase(b, a) for a, b in pairs)


def keys_by(component: Any) -> Keys | None:
    """By what a component makes keys and values; None where its kind does not say."""
    declared = component.kind.traits.keys
    return None if declared is None else declared(component.config)


def _share_all(
    name: str, module: nn.Module, parts: Mapping[str, str], own: set[str], owner: str, other: nn.Module
) -> None:
    kept = [parts[mine] for mine in own if mine in parts]
    owned = dict(other.named_parameters(remove_duplicate=False))
    for path, parameter in list(module.named_parameters(remove_duplicate=False)):
        if any(fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*") for pattern in kept):
            continue
        if path in owned:
            _check(name, path, parameter, owner, path, owned[path])
            _set(module, path, owned[path])


def _replace(name: str, module: nn.Module, pattern: str, owner: str, other: nn.Module, other_pattern: str) -> None:
    own, owned = _under(module, pattern), _under(other, other_pattern)
    if len(own) != len(owned):
        raise UserError(f"{name} cannot share {pattern!r} from {owner}: {len(own)} parameters here, {len(owned)} there")
    for (path, parameter), (source, shared) in zip(own, owned, strict=True):
        _check(name, path, parameter, owner, source, shared)
        _set(module, path, shared)


def _under(module: nn.Module, pattern: str) -> list[tuple[str, nn.Parameter]]:
    parameters = module.named_parameters(remove_duplicate=False)
    return [(path, p) for path, p in parameters if fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")]


def _check(name: str, path: str, parameter: nn.Parameter, owner: str, source: str, shared: nn.Parameter) -> None:
    if parameter.shape != shared.shape:
        raise UserError(
            f"{name}.{path} {list(parameter.shape)} cannot be shared from {owner}.{source} {list(shared.shape)}"
        )


def _set(module: nn.Module, path: str, parameter: nn.Parameter) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        module = getattr(module, parent)
    setattr(module, leaf, parameter)
