"""The scores that were measured of a run, in its folder: what reports and comparisons of runs read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from compose_vlp.errors import UserError
from compose_vlp.files import write_atomic
from compose_vlp.runtime.state.run_folder import RunFolder

FILE: Final = "scores.json"
"""In a run's `reports/`."""


@dataclass(frozen=True)
class Measurement:
    """One task, measured of one checkpoint on one entry of data.

    Attributes:
        task: Such as `retrieval`.
        data: The entry of `data`.
        changes: What was changed for it on the command line, such as `data.pairs.split=unseen`.
        records: How many were read, the first ones.
        step: Of the checkpoint, all stages counted.
        scores: Numbers by name, without the task's.
    """

    task: str
    data: str
    changes: tuple[str, ...]
    records: int
    step: int
    scores: Mapping[str, float]

    @property
    def key(self) -> tuple[str, str, tuple[str, ...]]:
        """Identify what a later measurement replaces."""
        return self.task, self.data, self.changes

    def named(self) -> dict[str, float]:
        """Numbers by task and name: `retrieval.mean_recall`."""
        return {f"{self.task}.{name}": value for name, value in self.scores.items()}


def tracked_names(data: str, scores: Mapping[str, float]) -> dict[str, float]:
    """Name scores as tracking has them, so that one task's stand together: `retrieval/pairs/image_to_text/recall_at_1`.

    `scores` have their task before them, as in `retrieval.image_to_text_recall_at_1`.
    """
    named = {}
    for name, value in scores.items():
        task, _, score = name.partition(".")
        for side in ("image_to_text", "text_to_image"):
            score = score.replace(f"{side}_", f"{side}/")
        named[f"{task}/{data}/{score}"] = value
    return named


def keep_scores(run: RunFolder, measured: Sequence[Measurement]) -> None:
    """Add to the run's scores; an older measurement of the same task, data and changes is replaced."""
    kept = {measurement.key: measurement for measurement in (*read_scores(run), *measured)}
    listed = [asdict(measurement) for measurement in kept.values()]
    run.reports.mkdir(exist_ok=True)
    write_atomic(_file(run), json.dumps(listed, indent=1) + "\n")


def read_scores(run: RunFolder) -> list[Measurement]:
    """List what was measured of a run: by `evaluate`, and while it trained, the latest of each.

    Raises:
        UserError: the file of scores is damaged.
    """
    measured = {measurement.key: measurement for measurement in _while_training(run.info.extra)}
    file = _file(run)
    if file.is_file():
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
            kept = [Measurement(**{**row, "changes": tuple(row["changes"])}) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged: {error}", hints=("delete it, and measure the run again",)) from None
        measured |= {measurement.key: measurement for measurement in kept}
    return list(measured.values())


def _while_training(extra: Mapping[str, Any]) -> list[Measurement]:
    """Read the evaluations of stages, which `run.json` keeps by data with their step and number of records."""
    measured = []
    for data, scores in extra.get("scores", {}).items():
        by_task: dict[str, dict[str, float]] = {}
        for name, value in scores.items():
            task, point, score = name.partition(".")
            if point:
                by_task.setdefault(task, {})[score] = value
        records, step = int(scores.get("records", 0)), int(scores["step"])
        measured += [Measurement(task, data, (), records, step, own) for task, own in by_task.items()]
    return measured


def _file(run: RunFolder) -> Path:
    return run.reports / FILE
