"""A trained model as a folder that another library's own users load."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from compose_vlp.errors import UserError
from compose_vlp.interop.formats import LIBRARIES, ONNX, PLAIN
from compose_vlp.interop.libraries.library import Library, State
from compose_vlp.interop.libraries.shape import LibraryClass, likeness, misfits
from compose_vlp.interop.new_folder import new_folder
from compose_vlp.interop.weights import merged_weights_of
from compose_vlp.readable import several, storage
from compose_vlp.runtime.inference.outputs import Asker

SHOWN: Final = 8
"""Differences of a model that a message lists."""


@dataclass(frozen=True)
class LibraryFolder:
    """The result: the folder, the classes that load it, its files, and what a user has to know."""

    folder: str
    library: str
    classes: tuple[str, ...]
    files: dict[str, int]
    remarks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def facts(self) -> list[tuple[str, str]]:
        """List the files for a card."""
        loaded = [("loaded by", f"{self.library}: {', '.join(self.classes)}")]
        return [*loaded, *((name, storage(size)) for name, size in self.files.items())]

    def lines(self) -> list[str]:
        """Tell what was written, and what was not."""
        size = f"{several(len(self.files), 'file')}, {storage(sum(self.files.values()))}"
        return [f"{self.folder}: {size}, for {' and '.join(self.classes)} of {self.library}", *self.remarks]


def export_folder(asker: Asker, folder: Path, library: str) -> LibraryFolder:
    """Write a new folder for every class of a library whose shape the model has.

    Raises:
        UserError: it has the shape of none, and in what it departs from the nearest; the folder is there and not empty,
            or cannot be written.
    """
    known = _known(library)
    state = merged_weights_of(asker.model)
    departures = [(of_class, _departures(known, of_class, asker, state)) for of_class in known.classes]
    fitting = [of_class for of_class, lines in departures if not lines]
    if not fitting:
        nearest, lines = max(departures, key=lambda entry: likeness(asker.blueprint, entry[0]))
        raise _has_no_shape(asker, library, nearest.name, lines)
    with new_folder(folder, library) as inside:
        remarks = known.write(fitting, asker, state, inside)
        files = {path.name: path.stat().st_size for path in sorted(inside.iterdir())}
    return LibraryFolder(str(folder), library, tuple(of_class.name for of_class in fitting), files, tuple(remarks))


def _departures(known: Library, of_class: LibraryClass, asker: Asker, state: State) -> list[str]:
    return misfits(asker.blueprint, of_class) or known.problems(of_class, asker, state)


def _has_no_shape(asker: Asker, library: str, name: str, lines: list[str]) -> UserError:
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    others = [other for other in LIBRARIES if other != library and fits(asker, other)]
    formats = ", ".join([PLAIN, ONNX, *others])
    return UserError(
        f"{asker.blueprint.name} has not the shape of {name} in {library}",
        hints=(*lines[:SHOWN], *more, f"it can be exported as {formats}"),
    )


def fits(asker: Asker, library: str) -> bool:
    """Has the model the shape of one of a library's classes?"""
    known = _known(library)
    state = merged_weights_of(asker.model)
    return any(not _departures(known, of_class, asker, state) for of_class in known.classes)


def _known(library: str) -> Library:
    module = importlib.import_module(f"compose_vlp.interop.libraries.{library}_library")
    known: Library = module.LIBRARY
    return known
