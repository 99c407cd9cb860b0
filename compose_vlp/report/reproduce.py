"""A run trained again from what its folder says of it, and held against what came of it the first time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compose_vlp.errors import UserError
from compose_vlp.report.recorded import curves_of, curves_of_log
from compose_vlp.runtime.state.run_folder import RunFolder

if TYPE_CHECKING:
    from compose_vlp.graph.graph import CheckedBlueprint
    from compose_vlp.runtime.training.listener import Listener

SCHEDULE = ("log_every", "checkpoint_every", "without", "device")
"""Options that a run is trained with again; its seed besides."""


@dataclass(frozen=True)
class MetricMatch:
    """One metric of both runs over the steps that both have.

    `largest` is the largest difference, relative to the larger of both values; `first` the step where they part.
    """

    name: str
    steps: int
    largest: float
    first: int | None


@dataclass(frozen=True)
class Reproduction:
    """What came of training a run again.

    Attributes:
        original: The run.
        again: The new one.
        circumstances: What is not as it was, in words: versions, threads, device, data.
        same_weights: Whether the last checkpoints' weights are equal, bit for bit.
        metrics: Of both runs, those that differ most first.
    """

    original: Path
    again: Path
    circumstances: tuple[str, ...]
    same_weights: bool
    metrics: tuple[MetricMatch, ...]

    @property
    def identical(self) -> bool:
        """Say whether weights are equal and no metric differs."""
        return self.same_weights and all(metric.first is None for metric in self.metrics)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "original": str(self.original),
            "again": str(self.again),
            "identical": self.identical,
            "same_weights": self.same_weights,
            "circumstances": list(self.circumstances),
            "metrics": [vars(metric) for metric in self.metrics],
        }


def reproduce(
    run: RunFolder,
    *,
    out: Path | None = None,
    track: bool = True,
    plugins: Sequence[Path] = (),
    listener: Listener | None = None,
    command: Sequence[str] = (),
    note: Callable[[str], None] = lambda _: None,
) -> Reproduction:
    """Train a finished run again: its blueprint, plugins, seed and options, on the data that its blueprint names.

    A file of `plugins` takes the place of the run's own of the same name.

    Raises:
        UserError: the run did not finish, its folder lacks the blueprint, or what `train` raises.
    """
    from compose_vlp.api import Blueprint
    from compose_vlp.runtime.state.carried import carried, replaced
    from compose_vlp.runtime.training.trainer import TrainOptions

    if run.info.status != "FINISHED":
        hint = f"`compose-vlp train --resume {run.path}` brings it to its end"
        raise UserError(f"{run.path} did not finish: there is no end to compare with", hints=(hint,))
    file = run.path / "blueprint.yaml"
    if not file.is_file():
        raise UserError(f"{run.path} has no blueprint.yaml to train again")
    blueprint = Blueprint.load(file, plugins=carried(run.path, plugins, note))
    known = run.info.extra.get("options", {})
    options = TrainOptions(
        seed=run.info.seed, **{name: _frozen(known[name]) for name in SCHEDULE if known.get(name) is not None}
    )
    differing = (*circumstances(run, blueprint.anchored().check()), *replaced(run.path, plugins))
    for line in differing:
        note(line)
    again = blueprint.train(out=out, options=options, track=track, listener=listener, command=command).folder
    return Reproduction(
        run.path, again.path, differing, _weights(run) == _weights(again), tuple(compare(run.path, again.path))
    )


def circumstances(run: RunFolder, checked: CheckedBlueprint) -> list[str]:
    """Name what is not as it was when the run was trained."""
    from compose_vlp.runtime.state.digests import changed
    from compose_vlp.tracking import versions
    from compose_vlp.training import machine

    now, then = versions(), run.info.versions
    lines = [
        f"{name} is {now.get(name, 'not installed')}, and was {then.get(name, 'not installed')}"
        for name in sorted(now.keys() | then.keys())
        if now.get(name) != then.get(name)
    ]
    known = run.info.extra.get("machine", {})
    here = machine() | {"processes": int(os.environ.get("WORLD_SIZE", "1"))}
    lines += [f"{name}: {value}, was {known[name]}" for name, value in here.items() if known.get(name, value) != value]
    lines += [f"`{name}` holds something else than then" for name in changed(checked, run.info.extra.get("data", {}))]
    return lines


def compare(original: Path, again: Path) -> list[MetricMatch]:
    """Compare the metrics of two runs over the steps that both have; times are no result, and are left out.

    Where one of them was not tracked, losses are compared as the logs have them.
    """
    before, after = curves_of(original), curves_of(again)
    if not before or not after:
        before, after = curves_of_log(original), curves_of_log(again)
    matches = []
    for name in before.keys() & after.keys():
        if name.endswith(("/step_seconds", "/waiting_share")):
            continue
        old, new = dict(before[name]), dict(after[name])
        shared = sorted(old.keys() & new.keys())
        parted = [step for step in shared if not _equal(old[step], new[step])]
        largest = max((_distance(old[step], new[step]) for step in parted), default=0.0)
        matches.append(MetricMatch(name, len(shared), largest, parted[0] if parted else None))
    return sorted(matches, key=lambda metric: (-metric.largest, metric.name))


def _equal(old: float, new: float) -> bool:
    return old == new or (math.isnan(old) and math.isnan(new))


def _distance(old: float, new: float) -> float:
    return abs(new - old) / max(abs(old), abs(new)) if math.isfinite(old) and math.isfinite(new) else math.inf


def _weights(run: RunFolder) -> str | None:
    """Read the digest of the last checkpoint's weights."""
    from compose_vlp.runtime.state import checkpoint
    from compose_vlp.runtime.state.manifest import read_manifest

    newest = checkpoint.latest(run.checkpoints)
    if newest is None:
        return None
    files = read_manifest(newest).files
    return " ".join(entry.sha256 for name, entry in sorted(files.items()) if name.startswith(("model.", "model/")))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
