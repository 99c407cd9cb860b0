"""The paper's own figures, from a blueprint's `x-paper`, beside what is built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from compose_vlp.blueprint.document import Document
from compose_vlp.blueprint.nodes import Mapping as Tree
from compose_vlp.blueprint.plain import guess
from compose_vlp.blueprint.trees import find
from compose_vlp.errors import UserError

_COUNT = re.compile(r"([\d.]+)\s*([KMB]?)")
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9}

CLOSE = 0.01
"""A count this near to the paper's, relatively, is the same."""


@dataclass(frozen=True)
class Figure:
    """A line of a paper's table: parameters of some components, as built and as printed."""

    label: str
    components: tuple[str, ...]
    built: int
    printed: str

    @property
    def ratio(self) -> float:
        """Built over printed."""
        return self.built / _number(self.printed)

    @property
    def agrees(self) -> bool:
        """Within 1 %, or the same once rounded to the digits that the paper prints."""
        found = _COUNT.fullmatch(self.printed)
        assert found, "figures are checked when they are read"
        digits = len(found[1].partition(".")[2])
        return abs(self.ratio - 1) <= CLOSE or round(self.built / _UNITS[found[2]], digits) == float(found[1])


def figures(document: Document, by_component: Mapping[str, int]) -> tuple[Figure, ...]:
    """The figures under `x-paper.parameters`: `{label: {components: [...], count: 86M}}`.

    Raises:
        UserError: a figure that is not of this form, or that names no component.
    """
    section = find(document.root, ("x-paper", "parameters"))
    if section is None:
        return ()
    if not isinstance(section.value, Tree):
        raise UserError("x-paper.parameters is a mapping of figures", span=section.value.span, hints=_FORM)
    found = []
    for entry in section.value:
        said = guess(entry.value)
        if not isinstance(said, dict) or not _COUNT.fullmatch(str(said.get("count"))):
            raise UserError(f"x-paper figure `{entry.name}` has no count", span=entry.value.span, hints=_FORM)
        listed = said.get("components", ())
        if not isinstance(listed, list | tuple):
            raise UserError(
                f"`components` of x-paper figure `{entry.name}` is a list", span=entry.value.span, hints=_FORM
            )
        names = tuple(map(str, listed))
        if any(one.name in names and one.name not in document.components for one in document.removed):
            continue  # a figure of the paper's model, of which this blueprint has dropped a part
        unknown = [name for name in names if name not in document.components]
        if unknown or not names:
            wrong = f"names `{unknown[0]}`, which is no component" if unknown else "names no components"
            raise UserError(f"x-paper figure `{entry.name}` {wrong}", span=entry.value.span, hints=_FORM)
        built = sum(by_component.get(name, 0) for name in names)
        found.append(Figure(entry.name, names, built, str(said["count"])))
    return tuple(found)


_FORM = ("write `label: {components: [vision], count: 86M}`",)


def _number(printed: str) -> float:
    found = _COUNT.fullmatch(printed)
    assert found, "figures are checked when they are read"
    return float(found[1]) * _UNITS[found[2]]
