"""What an export into a library's folder needs to know of the library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from compose_vlp.interop.libraries.shape import LibraryClass
from compose_vlp.runtime.inference.outputs import Asker

State: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True)
class Library:
    """A library: its classes, what tells of what in a model it has no place for, and what writes a folder.

    `write` fills the folder for these classes, and returns remarks for the user.
    """

    classes: tuple[LibraryClass, ...]
    problems: Callable[[LibraryClass, Asker, State], list[str]]
    write: Callable[[Sequence[LibraryClass], Asker, State, Path], list[str]]
