"""From the outbox to MLflow, in order, each metric once by (key, step)."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from compose_vlp.tracking.layout import Target, TrackFolder
from compose_vlp.tracking.mlflow_model import write_model
from compose_vlp.tracking.mlflow_store import METRICS_A_REQUEST, MlflowRun, RefusedError, RunGoneError
from compose_vlp.tracking.names import store_name
from compose_vlp.tracking.outbox import is_line_start, read
from compose_vlp.tracking.reason import reason
from compose_vlp.tracking.records import Artifact, DataSet, Metrics, Model, Params, Record, StatusChange, Tags
from compose_vlp.tracking.seen import Seen
from compose_vlp.tracking.state import SenderState

Point: TypeAlias = tuple[str, float, int, int]
"""Key, value, milliseconds since 1970, step."""


@dataclass(frozen=True)
class Group:
    """The records sent in one go: neighbouring metrics, or one other record (None: a damaged line)."""

    points: tuple[Point, ...]
    record: Record | None
    end: int


def next_group(path: Path, start: int) -> Group | None:
    """The next group of an outbox file after byte `start`; None where nothing follows."""
    points: list[Point] = []
    end = start
    for entry in read(path, start):
        record = entry.record
        if not isinstance(record, Metrics):
            return Group(tuple(points), None, end) if points else Group((), record, entry.end)
        if points and len(points) + len(record.values) > METRICS_A_REQUEST:
            break
        points += [(store_name(key), value, record.time_ms, record.step) for key, value in record.values.items()]
        end = entry.end
    return Group(tuple(points), None, end) if end > start else None


class Delivery:
    """Sends what the outbox holds, and keeps the account of what has arrived.

    An answer that is lost leaves in doubt whether the metrics were taken; then, and for a run that an earlier process
    began, MLflow is asked which steps it has before any is sent. So nothing arrives twice, whatever the store does
    with repetitions.
    """

    def __init__(self, folder: TrackFolder, target: Target) -> None:
        self._folder = folder
        self._target = target
        self._run: MlflowRun | None = None
        self._seen = Seen()
        self._doubted: set[str] = set()
        self.state = SenderState.read(folder.state)
        for path in (folder.outbox, folder.system):
            if not is_line_start(path, self.state.sent.get(path.name, 0)):
                self.state.sent[path.name] = 0

    def connect(self) -> MlflowRun:
        """The run in MLflow, made or found at the first call."""
        if self._run is None:
            self._run = MlflowRun.open(self._target, self._folder.run_folder, self.state.run_id)
            self.state.run_id = self._run.run_id
            self.state.experiment_id = self._run.experiment_id
            self._save()
        return self._run

    def send_next(self) -> bool:
        """Send one group. False when there is nothing to send."""
        for path in (self._folder.outbox, self._folder.system):
            group = next_group(path, self.state.sent.get(path.name, 0))
            if group is not None:
                self._send(group)
                self.state.sent[path.name] = group.end
                self._save()
                return True
        return False

    def retry_artifacts(self) -> None:
        """Try again to send the artifacts that were put by."""
        for name, path in list(self.state.deferred.items()):
            try:
                self._send_artifact(self.connect(), name, path)
            except RefusedError as error:
                self._refuse({"name": name, "path": path}, error)
            self._save()

    def set_status(self, change: StatusChange) -> None:
        if self.state.status != change.status:
            self.connect().set_status(change.status, change.time_ms)
            self.state.status = change.status
            self._save()

    def note_problem(self, problem: str | None) -> None:
        """Leave word for the training process about why nothing arrives; None when all is well."""
        if self.state.problem != problem:
            self.state.problem = problem
            self._save()

    def _send(self, group: Group) -> None:
        run = self.connect()
        record = group.record
        for start in range(0, len(group.points), METRICS_A_REQUEST):
            self._send_points(run, group.points[start : start + METRICS_A_REQUEST])
        try:
            if isinstance(record, Params):
                run.send_params(record.values)
            elif isinstance(record, Tags):
                run.send_tags(record.values)
            elif isinstance(record, Artifact):
                self._send_artifact(run, record.name, record.path)
            elif isinstance(record, DataSet):
                run.send_data_set(record)
            elif isinstance(record, Model):
                place = write_model(record, self._folder)
                self.state.models.setdefault(str(record.step), run.open_model(record.name, record.step))
                self._send_artifact(run, record.name, str(place.relative_to(self._folder.run_folder)))
            elif isinstance(record, StatusChange):
                self.set_status(record)
        except RefusedError as error:
            self._refuse(vars(record), error)

    def _send_points(self, run: MlflowRun, points: Sequence[Point]) -> None:
        fresh = self._fresh(run, points)
        if not fresh:
            return
        keys = {point[0] for point in fresh}
        try:
            run.send_metrics(fresh, self.state.models)
        except RefusedError as error:
            self._doubt(keys)
            if len(fresh) == 1:
                self._refuse(dict(zip(("key", "value", "time_ms", "step"), fresh[0], strict=True)), error)
                return
            half = len(fresh) // 2
            self._send_points(run, fresh[:half])
            self._send_points(run, fresh[half:])
            return
        except BaseException:
            self._doubt(keys)
            raise
        for key, _, _, step in fresh:
            self._seen.add(key, step)

    def _fresh(self, run: MlflowRun, points: Sequence[Point]) -> list[Point]:
        """The points that MLflow lacks, the first of each (key, step)."""
        fresh: dict[tuple[str, int], Point] = {}
        for point in points:
            key, step = point[0], point[3]
            if not self._seen.knows(key):
                self._seen.learn(key, () if run.is_new and key not in self._doubted else run.steps(key))
            if not self._seen.has(key, step):
                fresh.setdefault((key, step), point)
        return list(fresh.values())

    def _doubt(self, keys: set[str]) -> None:
        self._seen.forget(keys)
        self._doubted |= keys

    def _send_artifact(self, run: MlflowRun, name: str, path: str) -> None:
        """Send an artifact, or put it by: what keeps files from arriving must not keep metrics."""
        file = self._folder.run_folder / path
        try:
            if file.parent == self._folder.models:
                run.send_model(list(self.state.models.values())[-1], file)
            else:
                run.send_artifact(name, file)
        except (RefusedError, RunGoneError):
            self.state.deferred.pop(name, None)
            raise
        except Exception as error:  # noqa: BLE001 - artifact stores are plugins (S3, GCS, ...) with errors of their own
            self.state.deferred[name] = path
            self.state.artifact_problem = reason(error)
            return
        self.state.deferred.pop(name, None)
        if file.parent == self._folder.models:
            shutil.rmtree(file, ignore_errors=True)
        if not self.state.deferred:
            self.state.artifact_problem = None

    def _refuse(self, record: object, error: RefusedError) -> None:
        line = json.dumps({"time": time.time(), "record": record, "reason": str(error)})
        with self._folder.refused.open("a") as file:
            file.write(line + "\n")
        self.state.refused += 1

    def _save(self) -> None:
        self.state.write(self._folder.state)
