"""What a run recorded while it trained, from its own folder: curves and cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from compose_vlp.report.trials import Cost, Curve
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.training.log import LOG
from compose_vlp.tracking.layout import TrackFolder
from compose_vlp.tracking.records import Metrics, decode

_STEPS = re.compile(r"  (\S+) (\d+)/(\d+)  (.*)")
_LOSS = re.compile(r"(\S+) (-?\d+\.\d+)(?=  |$)")


def curves_of(folder: Path) -> dict[str, Curve]:
    """Read a run's metrics by name, in the order of steps; none where it was not tracked.

    A step that was repeated after a stop counts as it came out last.
    """
    outbox = TrackFolder(folder).outbox
    if not outbox.is_file():
        return {}
    values: dict[str, dict[int, float]] = {}
    with outbox.open("rb") as lines:
        for line in lines:
            record = decode(line)
            if isinstance(record, Metrics):
                for name, value in record.values.items():
                    values.setdefault(name, {})[record.step] = value
    return {name: sorted(points.items()) for name, points in values.items()}


def curves_of_log(folder: Path) -> dict[str, Curve]:
    """Read losses as a run's log has them, which untracked runs have too; steps are counted over all stages."""
    curves: dict[str, dict[int, float]] = {}
    lengths: dict[str, int] = {}
    for stage, done, steps, text in lines_of_log(folder):
        lengths[stage] = steps
        before = sum(lengths.values()) - steps
        for name, value in _LOSS.findall(text):
            curves.setdefault(f"{stage}.{name}", {})[before + done - 1] = float(value)
    return {name: sorted(points.items()) for name, points in curves.items()}


def lines_of_log(folder: Path) -> Iterator[tuple[str, int, int, str]]:
    """Yield what a run's log says of each step: stage, steps done, steps of the stage, and the losses."""
    log = folder / "logs" / LOG
    if log.is_file():
        for line in log.read_text(errors="replace").splitlines():
            step = _STEPS.search(line)
            if step is not None:
                yield step[1], int(step[2]), int(step[3]), step[4]


def cost_of(run: RunFolder) -> Cost:
    """Read what a run's stages took together; what it did not record is None."""
    stages = list(run.info.extra.get("stages", {}).values())
    if not stages:
        return Cost()
    peaks = [stage["peak_memory"] for stage in stages if "peak_memory" in stage]
    return Cost(
        parameters=run.info.extra.get("parameters"),
        seconds=sum(stage["seconds"] for stage in stages),
        memory=max(peaks) if peaks else None,
    )
