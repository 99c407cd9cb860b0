"""What `start` did to a model, in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from compose_vlp.readable import several

SHOWN = 8
"""Names in a list of a message."""


@dataclass
class Started:
    """The outcome: parameters by the file that they came from, those that start anew, and what was left over.

    Names are `component.path`; `unused` holds the names in each file that no weight came from.
    """

    filled: dict[str, str] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    unused: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The story, for people."""
        lines = []
        for file in dict.fromkeys(self.filled.values()):
            names = [name for name, source in self.filled.items() if source == file]
            components = sorted({name.split(".")[0] for name in names})
            lines.append(f"{several(len(names), 'weight')} of {', '.join(components)} from {file}")
        lines += self.notes
        lines += [f"left over in {file}: {some(names)}" for file, names in self.unused.items() if names]
        if self.new:
            lines.append(f"{len(self.new)} weights start anew: {some(sorted({stem(name) for name in self.new}))}")
        return lines


def stem(name: str) -> str:
    """A parameter's module."""
    return name.rpartition(".")[0] or name


def some(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
