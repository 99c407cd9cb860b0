"""What surrounds training: the run folder's papers and the tracker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compose_vlp.files import write_atomic
from compose_vlp.tracking import NullTracker, OutboxTracker, Tracker, TrackSettings, environment_tags

if TYPE_CHECKING:
    from compose_vlp.api import Blueprint
    from compose_vlp.graph.graph import CheckedBlueprint
    from compose_vlp.runtime.run_folder import RunFolder


def prepare_folder(blueprint: Blueprint, folder: RunFolder) -> dict[str, Path]:
    """Write the resolved blueprint, and each stage's source and plan, into a run's folder; gives them by name."""
    from compose_vlp.blueprint.write import write

    written = {"blueprint.yaml": folder.path / "blueprint.yaml"}
    write_atomic(written["blueprint.yaml"], write(blueprint.document))
    for name, compiled in blueprint.compile().items():
        written[f"programs/{name}.py"] = folder.artifacts / f"{name}.py"
        write_atomic(written[f"programs/{name}.py"], compiled.source)
    return written


def open_tracker(checked: CheckedBlueprint, folder: RunFolder, artifacts: dict[str, Path], track: bool) -> Tracker:
    """The tracker of a run; one that listens to nothing where tracking is off."""
    if not track:
        return NullTracker()
    tracker = OutboxTracker.start(folder.path, TrackSettings(experiment=checked.name, run_name=folder.path.name))
    tracker.tags({**environment_tags(), "blueprint": checked.name, "seed": str(folder.info.seed)})
    tracker.artifacts(artifacts)
    return tracker
