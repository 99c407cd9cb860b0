"""The paper's own figures, from a blueprint's `x-paper`, beside what is built."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Mapping as Tree
from compose_vlp.blueprint.patterns import matches, matches_any
from compose_vlp.blueprint.plain import guess
from compose_vlp.blueprint.trees import find
from compose_vlp.errors import UserError

_COUNT = re.compile(r"([\d.]+)\s*([KMB]?)")
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9}

CLOSE = 0.01
"""A count this near to the paper's, relatively, is the same."""


OTHER = 2
"""A model of which a figure is so many times as large or as small is another than the paper's."""


@dataclass(frozen=True)
class Figure:
    """A line of a paper's table: parameters of some components, or below some paths, as built and as printed."""

    label: str
    components: tuple[str, ...]  # or patterns of paths
    built: int
    printed: str

    @property
    def ratio(self) -> float:
        """Built over printed."""
        return self.built / _number(self.printed)

    @property
    def agrees(self) -> bool:
        """Within 1 %, or the same once rounded to the digits that the paper prints."""
        match = _COUNT.fullmatch(self.printed)
        assert match, "figures are checked when they are read"
        digits = len(match[1].partition(".")[2])
        return abs(self.ratio - 1) <= CLOSE or round(self.built / _UNITS[match[2]], digits) == float(match[1])


def figures(
    document: Document, by_component: Mapping[str, int], by_path: Callable[[], Mapping[str, int]] = dict
) -> tuple[Figure, ...]:
    """The figures under `x-paper.parameters`: `{label: {components: [...], count: 86M}}`, or `match: [...]`.

    `by_path` counts every parameter by its path, and is asked where a figure has patterns. A figure of the paper's
    model of which the blueprint has dropped a part is left out; so are all where one is twice or half as large, since
    a small sibling is no such model.

    Raises:
        UserError: a figure that is not of this form, or that names no component or no parameter.
    """
    section = find(document.root, ("x-paper", "parameters"))
    if section is None:
        return ()
    if not isinstance(section.value, Tree):
        raise UserError("x-paper.parameters is a mapping of figures", span=section.value.span, hints=_FORM)
    compared = []
    for entry in section.value:
        settings = guess(entry.value)
        if not isinstance(settings, dict) or not _COUNT.fullmatch(str(settings.get("count"))):
            raise UserError(f"x-paper figure `{entry.name}` has no count", span=entry.value.span, hints=_FORM)
        key = "match" if "match" in settings else "components"
        listed = settings.get(key, ())
        if not isinstance(listed, list | tuple) or {"match", "components"} <= settings.keys():
            wrong = f"`{key}` of x-paper figure `{entry.name}` is a list, and one of `components` and `match`"
            raise UserError(wrong, span=entry.value.span, hints=_FORM)
        names = tuple(map(str, listed))
        gone = {component.name for component in document.removed if component.name not in document.components}
        if gone & {name.partition(".")[0] for name in names}:
            continue
        try:
            built = _below(names, by_path()) if key == "match" else _of(names, document, by_component)
        except ValueError as wrong:
            raise UserError(f"x-paper figure `{entry.name}` {wrong}", span=entry.value.span, hints=_FORM) from None
        compared.append(Figure(entry.name, names, built, str(settings["count"])))
    return tuple(compared) if all(1 / OTHER <= figure.ratio <= OTHER for figure in compared) else ()


def _of(names: Collection[str], document: Document, by_component: Mapping[str, int]) -> int:
    unknown = [name for name in names if name not in document.components]
    if unknown or not names:
        raise ValueError(f"names `{unknown[0]}`, which is no component" if unknown else "names no components")
    return sum(by_component.get(name, 0) for name in names)


def _below(patterns: Collection[str], by_path: Mapping[str, int]) -> int:
    for pattern in patterns:
        if not any(matches(pattern, path) for path in by_path):
            raise ValueError(f"names no parameter by `{pattern}`")
    return sum(count for path, count in by_path.items() if matches_any(patterns, path))


_FORM = ('write `label: {components: [vision], count: 86M}`, or `match: ["**.experts.vision"]`',)


def _number(printed: str) -> float:
    match = _COUNT.fullmatch(printed)
    assert match, "figures are checked when they are read"
    return float(match[1]) * _UNITS[match[2]]
