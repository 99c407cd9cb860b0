"""A cell is known by what it computes: a digest of blueprint, data, seed and code, so that nothing is trained twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import compose_vlp
from compose_vlp.api import Blueprint
from compose_vlp.blueprint.diff import meaning
from compose_vlp.blueprint.document import DRAFT, Document, is_expression
from compose_vlp.blueprint.nodes import Mapping
from compose_vlp.runtime.state.digests import data_digests
from compose_vlp.tracking import versions

DIGITS: Final = 12
_NO_NUMBERS: Final = ("name", "title", "paper", "tracking")
"""Sections that change no number of a run."""
_TALK: Final = frozenset({"cli", "sweep", "report", "picture", "pages", "tracking", "capfilt", "doctor", "demo"})
"""Packages whose code changes no number of a run."""


@dataclass(frozen=True)
class Identity:
    """Digests of what a run is computed from, its seed left out: what it does, on what, by which code."""

    blueprint: str
    data: str
    code: str
    budget: str = ""

    def of_seed(self, seed: int) -> str:
        """The digest of one run."""
        return _digest({**asdict(self), "seed": seed})

    def differences(self, other: Identity) -> list[str]:
        """Names of the parts in which two differ."""
        mine, yours = asdict(self), asdict(other)
        return [name for name in mine if mine[name] != yours[name]]


def identity(blueprint: Blueprint, budget: str = "") -> Identity:
    """Identify what a blueprint's runs compute.

    Args:
        blueprint: without mistakes, its paths absolute, so that the files that it names are read.
        budget: what decides the length of a run where the blueprint does not say it: minutes.
    """
    digests = {name: digest.contents for name, digest in data_digests(blueprint.check()).items()}
    plugins = [plugin.files for plugin in blueprint.plugins]
    return Identity(_digest(meanings(blueprint.document)), _digest(digests), _digest([_code(), plugins]), budget)


def meanings(document: Document) -> dict[str, str]:
    """Collect what decides numbers in a document, by path: neither order nor quotes nor ways of writing count."""
    kept = (entry for entry in document.root if entry.name not in _NO_NUMBERS and not entry.name.startswith(DRAFT))
    return dict(_leaves(Mapping(tuple(kept), document.root.span), ()))


def _leaves(mapping: Mapping, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for entry in mapping:
        path = (*above, entry.name)
        if isinstance(entry.value, Mapping) and len(entry.value) and not is_expression(path, entry.value):
            yield from _leaves(entry.value, path)
        else:
            yield ".".join(path), repr(meaning(entry, path))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGITS]


@cache
def _code() -> str:
    """Digest of the packages' versions, and of this package's code as far as it decides numbers."""
    root = Path(compose_vlp.__file__).parent
    known = hashlib.sha256(json.dumps(versions(), sort_keys=True).encode())
    for place in sorted(_sources(root)):
        if Path(place).parts[0].removesuffix(".py") not in _TALK:
            known.update(f"{place}\n".encode() + (root / place).read_bytes())
    return known.hexdigest()[:DIGITS]


def _sources(root: Path) -> Iterator[str]:
    """Python files below a folder and the links in it, relative to it."""
    for folder, _, files in os.walk(root, followlinks=True):
        yield from (Path(folder, file).relative_to(root).as_posix() for file in files if file.endswith(".py"))
