"""MLflow, as much of it as a run needs. Nothing here is imported by the training process: MLflow takes seconds to."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeVar

import requests
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model as MlflowModel
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import SQLAlchemyError

from compose_vlp.files import ProcessLock
from compose_vlp.tracking.layout import SQLITE, Target, sqlite_path
from compose_vlp.tracking.names import cut, store_name
from compose_vlp.tracking.records import DataSet, Status

T = TypeVar("T")

KEY_TAG = "compose_vlp.run"
FOLDER_TAG = "compose_vlp.run_folder"

STEP_TAG = "step"
"""Of a model: the step of its weights."""
MODEL_TYPE = "vision-language model"
_MODEL_TAGS = ("blueprint", "paper", "hybrid")
_MODEL_PARAM_LENGTH = 500

METRICS_A_REQUEST = 1000
_WORDS_A_REQUEST = 20  # MLflow takes a megabyte a request; a value may be 8,000 characters of 6 bytes each
_PARAM_LENGTH = 6000
_TAG_LENGTH = 8000
_NAME_LENGTH = 500
_SOURCE_LENGTH = 65535


class StoreProblemError(Exception):
    """MLflow answers, but cannot take the run before somebody mends something there."""


class RunGoneError(Exception):
    """The run was deleted in MLflow."""


class RefusedError(Exception):
    """MLflow is well and will not take this record, now or later."""


FAILURES = (MlflowException, requests.RequestException, SQLAlchemyError, OSError, StoreProblemError)
"""What a request may fail with that a later one may not."""


def be_brief() -> None:
    """Keep MLflow's requests short and silent, unless the user's environment says otherwise.

    Its defaults wait 120 s for an answer and try seven times; the sender has its own patience.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT", "60")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def open_client(uri: str) -> MlflowClient:
    """A client whose store exists. An SQLite file is made under a lock: two first starts would race its migrations."""
    database = sqlite_path(uri)
    if database is None:
        return _client(uri)
    if not database.parent.is_dir() or not os.access(database.parent, os.W_OK):
        raise StoreProblemError(f"cannot write in {database.parent}, where {database.name} belongs")
    with ProcessLock(database.with_name(f"{database.name}.lock")):
        if not database.exists():
            _make_store(database)
        client = _client(uri)
        client.search_experiments(max_results=1)
    return client


def _make_store(database: Path) -> None:
    """Make an SQLite store beside its place, and move it there when it is whole.

    MLflow's dozens of migrations take seconds and can neither be undone nor repeated: a store in whose making a process
    was killed could never be opened again.
    """
    with tempfile.TemporaryDirectory(dir=database.parent, prefix=f".{database.name}-") as folder:
        fresh = Path(folder) / database.name
        _client(f"{SQLITE}{fresh}").search_experiments(max_results=1)
        fresh.replace(database)


def _client(uri: str) -> MlflowClient:
    try:
        return MlflowClient(uri)
    except ImportError as error:
        raise StoreProblemError(f"the store {uri} needs a package that is not installed: {error}") from error


class MlflowRun:
    """One run in MLflow. Requests raise one of `FAILURES`, `RefusedError` or `RunGoneError`."""

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str, *, is_new: bool) -> None:
        self._client = client
        self.run_id = run_id
        self.experiment_id = experiment_id
        self.is_new = is_new

    @classmethod
    def open(cls, target: Target, run_folder: Path, run_id: str | None) -> MlflowRun:
        """The run of `target`: `run_id` where it is known, else found by its key (it may have been made unheard).

        Where there is none it is made.
        """
        client = open_client(target.uri)
        experiment = _experiment_id(client, target)
        if run_id is None:
            run_id = _run_of_key(client, experiment, target.key)
        if run_id is not None:
            run = cls(client, run_id, experiment, is_new=False)
            run._require_alive()
            client.set_tag(run.run_id, FOLDER_TAG, str(run_folder.resolve()))  # it may have been moved
            return run
        tags = {KEY_TAG: target.key, FOLDER_TAG: str(run_folder.resolve())}
        parent = _run_of_key(client, experiment, target.parent) if target.parent else None
        if parent is not None:
            tags[MLFLOW_PARENT_RUN_ID] = parent
        made = client.create_run(experiment, target.started_ms, tags, target.run_name)
        return cls(client, made.info.run_id, experiment, is_new=True)

    def steps(self, key: str) -> list[int]:
        """The steps that MLflow has of a metric."""
        with self._judged():
            return [metric.step for metric in self._client.get_metric_history(self.run_id, store_name(key))]

    def send_metrics(self, metrics: Sequence[tuple[str, float, int, int]], models: Mapping[str, str]) -> None:
        """At most 1,000 tuples of key, value, milliseconds since 1970 and step; `models` by the step of their weights
        have what is measured at that step, too."""
        with self._judged():
            entities = [
                Metric(store_name(key), value, time_ms, step, model_id=models.get(str(step)))
                for key, value, time_ms, step in metrics
            ]
            self._client.log_batch(self.run_id, metrics=entities)

    def send_params(self, values: Mapping[str, str]) -> None:
        """Params that MLflow has not; those that it has otherwise become tags `resumed.<name>`."""
        params = {store_name(name): cut(value, _PARAM_LENGTH) for name, value in values.items()}
        with self._judged():
            known = self._client.get_run(self.run_id).data.params
            fresh = [Param(name, value) for name, value in params.items() if name not in known]
            for piece in _pieces(fresh):
                self._client.log_batch(self.run_id, params=piece)
        self.send_tags({f"resumed.{name}": value for name, value in params.items() if known.get(name, value) != value})

    def send_tags(self, values: Mapping[str, str]) -> None:
        with self._judged():
            tags = [RunTag(store_name(name), cut(value, _TAG_LENGTH)) for name, value in values.items()]
            for piece in _pieces(tags):
                self._client.log_batch(self.run_id, tags=piece)

    def send_data_set(self, data_set: DataSet) -> None:
        """An entry of `data`; MLflow keeps one of a name and digest, however often it is sent."""
        name, settings = cut(data_set.name, _NAME_LENGTH), cut(data_set.settings, _SOURCE_LENGTH)
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, data_set.context)]
        with self._judged():
            entity = Dataset(name, data_set.digest, data_set.source, settings)
            self._client.log_inputs(self.run_id, datasets=[DatasetInput(entity, tags)])

    def send_artifact(self, name: str, path: Path) -> None:
        """A file or a folder; sent twice it replaces itself."""
        if not path.exists():
            raise RefusedError(f"{path} is not there any more")
        with self._judged():
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), artifact_path=name)
            else:
                self._send_file(PurePosixPath(name), path)

    def open_model(self, name: str, step: int) -> str:
        """The key of this run's model of a step, which is made where MLflow has none: a row of its "Models" tab."""
        with self._judged():
            run = self._client.get_run(self.run_id)
            known = self._client.search_logged_models(
                [self.experiment_id], f"source_run_id = '{self.run_id}' AND name = '{name}'"
            )
            of_step = [model.model_id for model in known if model.tags.get(STEP_TAG) == str(step)]
            if of_step:
                return str(of_step[0])
            tags = {key: value for key, value in run.data.tags.items() if key in _MODEL_TAGS or key.startswith("x-")}
            params = {key: value for key, value in run.data.params.items() if len(value) <= _MODEL_PARAM_LENGTH}
            model = self._client.create_logged_model(
                self.experiment_id,
                name,
                self.run_id,
                {**{key: cut(value, _MODEL_PARAM_LENGTH) for key, value in tags.items()}, STEP_TAG: str(step)},
                params,
                MODEL_TYPE,
            )
            return str(model.model_id)

    def send_model(self, model_id: str, path: Path) -> None:
        """A model's folder in MLflow's format, with which the model is ready; sent twice it replaces itself."""
        if not path.is_dir():
            raise RefusedError(f"{path} is not there any more")
        written = MlflowModel.load(path)
        written.model_id = written.model_uuid = model_id
        written.run_id = self.run_id
        written.save(str(path / "MLmodel"))
        with self._judged():
            self._client.log_model_artifacts(model_id, str(path))
            model, run = self._client.get_logged_model(model_id), self._client.get_run(self.run_id)
            known = run.outputs.model_outputs if run.outputs is not None else []
            if model_id not in {output.model_id for output in known}:
                self._client.log_outputs(self.run_id, [LoggedModelOutput(model_id, int(model.tags[STEP_TAG]))])
            self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)

    def set_status(self, status: Status, time_ms: int | None = None) -> None:
        with self._judged():
            if status == "RUNNING":
                self._client.update_run(self.run_id, status=status)
            else:
                self._client.set_terminated(self.run_id, status, end_time=time_ms or int(time.time() * 1000))

    def _send_file(self, name: PurePosixPath, path: Path) -> None:
        folder = None if name.parent == PurePosixPath() else str(name.parent)
        if path.name == name.name:
            self._client.log_artifact(self.run_id, str(path), artifact_path=folder)
            return
        with tempfile.TemporaryDirectory() as renamed:  # MLflow names an artifact after its file
            link = Path(renamed) / name.name
            link.symlink_to(path.resolve())
            self._client.log_artifact(self.run_id, str(link), artifact_path=folder)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Tell a refusal of what was sent from a server that is unwell: only the first is final."""
        try:
            yield
        except MlflowException as error:
            if error.error_code not in {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}:
                raise
            self._require_alive()
            raise RefusedError(str(error)) from error

    def _require_alive(self) -> None:
        gone = f"run {self.run_id} was deleted in MLflow; `mlflow runs restore --run-id {self.run_id}` brings it back"
        try:
            run = self._client.get_run(self.run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise RunGoneError(gone) from error
            raise
        if run.info.lifecycle_stage != "active":
            raise RunGoneError(gone)


def _pieces(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _WORDS_A_REQUEST] for start in range(0, len(items), _WORDS_A_REQUEST))


def _run_of_key(client: MlflowClient, experiment: str, key: str) -> str | None:
    """Find the run that was given this key when it was made."""
    condition = f"tags.`{KEY_TAG}` = '{key}'"
    runs = client.search_runs([experiment], condition, run_view_type=ViewType.ALL, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def folder_of_run(uri: str, run_id: str) -> Path | None:
    """The run folder that MLflow remembers for one of its runs; None where it knows no such run or folder of ours."""
    try:
        run = open_client(uri).get_run(run_id)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise
    folder = run.data.tags.get(FOLDER_TAG)
    return Path(folder) if folder else None


def _experiment_id(client: MlflowClient, target: Target) -> str:
    experiment = client.get_experiment_by_name(target.experiment)
    if experiment is None:
        try:
            return str(client.create_experiment(target.experiment, artifact_location=_artifact_location(target)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another run was quicker
                raise
            experiment = client.get_experiment_by_name(target.experiment)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise StoreProblemError(
            f"experiment {target.experiment!r} was deleted in MLflow; `mlflow experiments restore` brings it back"
        )
    return str(experiment.experiment_id)


def _artifact_location(target: Target) -> str | None:
    """`mlruns/` beside an SQLite store; a server decides for itself."""
    database = sqlite_path(target.uri)
    return None if database is None else (database.parent / "mlruns" / target.experiment).as_uri()
