"""A finished model in MLflow's own format: a folder that `mlflow.pyfunc.load_model` and `mlflow models serve` take."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from compose_vlp.tracking.layout import TrackFolder
from compose_vlp.tracking.mlflow_store import RefusedError
from compose_vlp.tracking.records import Model


def write_model(model: Model, folder: TrackFolder) -> Path:
    """Write the model's folder below `folder.models`; one that is there is made again.

    Raises:
        RefusedError: a file of it is gone, or the disk has no room. The weights stay in the run folder.
    """
    import mlflow.pyfunc
    from pandas import DataFrame

    place = folder.models / model.name
    shutil.rmtree(place, ignore_errors=True)
    try:
        folder.models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as gathered, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is not given, such as constraints of versions
            data = Path(gathered) / model.name
            _link(model, folder.run_folder, data)
            mlflow.pyfunc.save_model(
                place,
                loader_module=model.loader,
                data_path=str(data),
                pip_requirements=list(model.requirements),
                signature=_signature(model),
                input_example=DataFrame([model.example]) if model.example else None,
            )
    except (OSError, shutil.Error, MlflowException) as error:
        shutil.rmtree(place, ignore_errors=True)
        raise RefusedError(f"the model cannot be written in MLflow's format: {error}") from error
    return place


def _signature(model: Model) -> ModelSignature:
    """Tell what may be given, what comes back from the output that answers, and what else may be asked for."""
    answer: Any = Array(model.answer) if model.answer == "double" else model.answer
    return ModelSignature(
        inputs=Schema([ColSpec(kind, name, required=False) for name, kind in model.inputs.items()]),
        outputs=Schema([ColSpec(answer)]),
        params=ParamSchema(
            [
                ParamSpec("output", "string", model.output),
                ParamSpec("settings", "string", "{}"),
                ParamSpec("seed", "long", 0),
            ]
        ),
    )


def _link(model: Model, run_folder: Path, data: Path) -> None:
    """The model's files as links, which MLflow follows when it copies them."""
    for name, path in model.files.items():
        source = (run_folder / path).resolve(strict=True)
        link = data / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)
