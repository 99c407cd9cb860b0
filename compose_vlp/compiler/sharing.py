"""Tying the parts of components that a blueprint shares: my part -> another's part of the same place."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from compose_vlp.errors import UserError


def tie(modules: Mapping[str, nn.Module], components: Mapping[str, Any]) -> None:
    """Replace shared parts by their owners', owners before those that share from them.

    Raises:
        UserError: shapes of the two parts differ.
    """
    for name in owners_first(components):
        part = components[name]
        share = dict(part.share)
        own = {mine for mine, source in share.items() if source == "own"}
        for mine, source in share.items():
            if source == "own":
                continue
            owner, _, theirs = source.partition(".")
            if mine == "*":
                _share_all(name, modules[name], part.kind.parts, own | (share.keys() - {"*"}), owner, modules[owner])
            else:
                pattern = components[owner].kind.parts[theirs or mine]
                _replace(name, modules[name], part.kind.parts[mine], owner, modules[owner], pattern)


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


def owner_of(part: str, name: str, components: Mapping[str, Any]) -> str:
    """The component whose parameters a component's part uses in every layer: itself, or the one that owns them."""
    share = dict(components[name].share)
    source = share.get(part) or share.get("*", "own")
    owner, _, theirs = source.partition(".")
    if (
        source == "own"
        or (theirs or part) != part
        or not _used_alike(components[name].config, components[owner].config)
    ):
        return name
    return owner_of(part, owner, components)


def _used_alike(mine: Any, theirs: Any) -> bool:
    """Have two components equal parameters in equal layers, and read them in the same way?"""
    return all(getattr(mine, name, None) == getattr(theirs, name, None) for name in ("depth", "heads", "norm_eps"))


def _share_all(
    name: str, module: nn.Module, parts: Mapping[str, str], own: set[str], owner: str, other: nn.Module
) -> None:
    kept = [parts[mine] for mine in own if mine in parts]
    theirs = dict(other.named_parameters(remove_duplicate=False))
    for path, parameter in list(module.named_parameters(remove_duplicate=False)):
        if any(fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*") for pattern in kept):
            continue
        if path in theirs:
            _check(name, path, parameter, owner, path, theirs[path])
            _set(module, path, theirs[path])


def _replace(name: str, module: nn.Module, pattern: str, owner: str, other: nn.Module, other_pattern: str) -> None:
    mine, theirs = _under(module, pattern), _under(other, other_pattern)
    if len(mine) != len(theirs):
        raise UserError(
            f"{name} cannot share {pattern!r} from {owner}: {len(mine)} parameters here, {len(theirs)} there"
        )
    for (path, parameter), (source, shared) in zip(mine, theirs, strict=True):
        _check(name, path, parameter, owner, source, shared)
        _set(module, path, shared)


def _under(module: nn.Module, pattern: str) -> list[tuple[str, nn.Parameter]]:
    found = module.named_parameters(remove_duplicate=False)
    return [(path, p) for path, p in found if fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")]


def _check(name: str, path: str, mine: nn.Parameter, owner: str, source: str, theirs: nn.Parameter) -> None:
    if mine.shape != theirs.shape:
        raise UserError(
            f"{name}.{path} {list(mine.shape)} cannot be shared from {owner}.{source} {list(theirs.shape)}",
            hints=["shared parts have one shape"],
        )


def _set(module: nn.Module, path: str, parameter: nn.Parameter) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        module = getattr(module, parent)
    setattr(module, leaf, parameter)
