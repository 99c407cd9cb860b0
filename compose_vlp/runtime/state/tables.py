"""The tables of a run: lists of texts that are part of its model, kept as they were when it began."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Final

from compose_vlp.blueprint.inputs import Input, LabelInput, TextInput
from compose_vlp.files import write_atomic
from compose_vlp.graph.graph import CheckedBlueprint

FOLDER: Final = "tables"
INDEX: Final = "tables.json"
"""Which file each copy is of, as the blueprint writes it: by input, `table`, `templates` and `classes`."""


def keep_tables(blueprint: CheckedBlueprint, run: Path) -> None:
    """Copy the files of tables into a run's folder, where they are there; those of a run that goes on stay."""
    folder = run / FOLDER
    if (folder / INDEX).exists():
        return
    index: dict[str, dict[str, str]] = {}
    for name, spec in blueprint.inputs.items():
        files = _files(spec)
        if files and all(Path(file).is_file() for file in files.values()):
            folder.mkdir(exist_ok=True)
            for what, file in files.items():
                shutil.copyfile(file, folder / f"{name}.{what}.txt")
            index[name] = files
    if index:
        write_atomic(folder / INDEX, json.dumps(index, indent=1, ensure_ascii=False))


def with_kept_tables(blueprint: CheckedBlueprint, run: Path) -> CheckedBlueprint:
    """Let the blueprint read a run's own copies; an input whose table was changed since reads what it says."""
    file = run / FOLDER / INDEX
    if not file.is_file():
        return blueprint
    inputs = dict(blueprint.inputs)
    for name, files in json.loads(file.read_text(encoding="utf-8")).items():
        spec = inputs.get(name)
        if spec is not None and _files(spec) == files:
            copies = {what: str(run / FOLDER / f"{name}.{what}.txt") for what in files}
            inputs[name] = spec.model_copy(update=copies)
    return dataclasses.replace(blueprint, inputs=inputs)


def _files(spec: Input) -> dict[str, str]:
    written: dict[str, object] = {}
    if isinstance(spec, TextInput):
        written = {"table": spec.table, "templates": spec.templates}
    elif isinstance(spec, LabelInput):
        written = {"classes": spec.classes}
    return {what: file for what, file in written.items() if isinstance(file, str)}
