"""The runs below a folder as rows: what each was, how it stands, and what was measured of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

from compose_vlp.errors import UserError
from compose_vlp.runtime.state.new_folder import RUN_FILE
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.state.scores import Measurement, read_scores

Cell: TypeAlias = str | int | float | bool | None

FACTS: Final = ("run", "blueprint", "status", "seed", "started", "seconds", "steps")
"""What every run has, beside its scores and its settings."""


@dataclass(frozen=True)
class RunRow:
    """A run and what is known of it without loading its model."""

    folder: RunFolder
    measured: Sequence[Measurement]

    @cached_property
    def facts(self) -> dict[str, Cell]:
        """Values by the names of `FACTS`. `started` is in UTC, `seconds` are those of all steps."""
        info = self.folder.info
        stages = info.extra.get("stages", {}).values()
        return {
            "run": str(self.folder.path),
            "blueprint": info.blueprint,
            "status": info.status,
            "seed": info.seed,
            "started": datetime.fromisoformat(info.started).strftime("%Y-%m-%d %H:%M"),
            "seconds": round(sum(stage["seconds"] for stage in stages), 1) if stages else None,
            "steps": sum(stage["steps"] for stage in stages) if stages else None,
        }

    @cached_property
    def scores(self) -> dict[str, float]:
        """Scores by task and name; of two measurements of one task the later stands."""
        return {name: value for measurement in self.measured for name, value in measurement.named().items()}

    @cached_property
    def settings(self) -> dict[str, Cell]:
        """Values of the blueprint by their paths, such as `stages.pretrain.batch`."""
        from compose_vlp.blueprint.plain import guess, leaves
        from compose_vlp.blueprint.reader import read_file

        file = self.folder.path / "blueprint.yaml"
        return dict(leaves(guess(read_file(file).root))) if file.is_file() else {}

    def value(self, name: str) -> Cell:
        """Look a name up among facts, scores and settings; None where the run has no such value."""
        if name in self.facts:
            return self.facts[name]
        return self.scores[name] if name in self.scores else self.settings.get(name)

    def as_json(self) -> dict[str, Any]:
        """Everything but the settings, for `--json`."""
        return {**self.facts, "scores": self.scores}


def find_runs(roots: Sequence[Path], note: Callable[[str], None] = lambda _: None) -> list[RunRow]:
    """Find the trained runs at and below folders, the latest first; builds are none.

    A run that cannot be read hides no other: `note` is told of it, and of scores that cannot be read.

    Raises:
        UserError: a folder that is not there.
    """
    files: dict[Path, float] = {}
    for root in roots:
        if not root.is_dir():
            raise UserError(f"no folder {str(root)!r}", hints=("runs are made below runs/ by `compose-vlp train`",))
        for file in root.rglob(RUN_FILE):
            with suppress(FileNotFoundError):  # a run that begins at this moment moves its folder
                files[file.parent] = file.stat().st_mtime
    rows = []
    for folder in sorted(files, key=lambda path: files[path], reverse=True):
        try:
            run = RunFolder.open(folder)
        except UserError as error:
            note(f"{error}; it is left out")
            continue
        if run.info.extra.get("kind") != "build":
            rows.append(RunRow(run, _measured(run, note)))
    return rows


def _measured(run: RunFolder, note: Callable[[str], None]) -> list[Measurement]:
    try:
        return read_scores(run)
    except UserError as error:
        note(f"{error}; the run is listed without scores")
        return []
