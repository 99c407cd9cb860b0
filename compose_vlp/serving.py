"""A trained model as MLflow loads and serves it: rows of inputs in, one answer for each out.

`mlflow.pyfunc.load_model("runs:/RUN_ID/model").predict({"image": [data]})`, or `mlflow models serve`. Whoever asks is
taken for a stranger: `compose_vlp.runtime.inference.served_requests` has what is allowed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from compose_vlp.data.source import shown
from compose_vlp.errors import UserError
from compose_vlp.graph.asked import first_asked
from compose_vlp.run import Run, load
from compose_vlp.runtime.inference.served_requests import (
    opened_folder,
    pictures_of_request,
    rows_of_request,
    seed_of_request,
    settings_of_request,
    text_of_request,
)

log = logging.getLogger(__name__)


class Served:
    """A trained model behind MLflow's `predict`; `folder` holds the pictures that may be asked for by path."""

    def __init__(self, run: Run, default: str, folder: Path | None = None) -> None:
        self.run = run
        self.default = default
        self.folder = folder

    def predict(self, model_input: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> list[Any]:
        """One answer a row: a text of an output that writes, a list of numbers of one that is a value.

        Args:
            model_input: A column for each field of a record that the output reads, in a DataFrame or a mapping of
                lists. A picture is its file, as bytes or in base64 (alone or as a `data:` address), or its path below
                the folder that the environment variable COMPOSE_VLP_PICTURES names.
            params: `output` (the one that writes texts if left out), `seed`, and `settings`, JSON such as
                `{"beams": 3}`.

        Raises:
            MlflowException: the caller's mistake, told as compose-vlp tells it, which a server answers with status 400;
                or a fault of the model's, which is written to the server's log and not told to the caller (500).
        """
        try:
            return self._answers(model_input, params or {})
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        except Exception as error:  # whoever asks is a stranger: what failed is not theirs to see, paths least of all
            log.exception("a request failed")
            raise MlflowException("the model failed on this request; its server's log says how") from error

    def _answers(self, given: Any, params: Mapping[str, Any]) -> list[Any]:
        name = str(params.get("output") or self.default)
        output = self.run.outputs.get(name)
        if output is None:
            raise UserError(f"the model has no output {shown(name)}; it has {', '.join(self.run.outputs)}")
        reads = self.run.asker.types_read(name)
        missing = [field for field in reads if field not in given]
        if missing:
            raise UserError(f"output {name!r} reads {', '.join(reads)}; there is no {' and no '.join(missing)}")
        seed = seed_of_request(params.get("seed"))
        settings = settings_of_request(params.get("settings"), {*self.run.blueprint.inputs, *reads})
        cells = {field: list(_cells(given[field])) for field in reads}
        rows_of_request(cells)
        if not all(cells.values()):
            return []
        answers = output(
            seed=seed, **{field: self._read(field, reads[field], values) for field, values in cells.items()}, **settings
        )
        return answers if isinstance(answers, list) else list(answers.tolist())

    def _read(self, name: str, kind: str, values: list[Any]) -> list[Any]:
        if kind == "image":
            return pictures_of_request(values, self.folder)
        return [text_of_request(name, value) for value in values]


def _cells(column: Iterable[Any]) -> Iterator[Any]:
    """List the values of a column: MLflow makes one row of a mapping of lists, with a list in each cell."""
    for cell in column:
        if isinstance(cell, list | tuple):
            yield from cell
        else:
            yield cell


def _load_pyfunc(data_path: str) -> Served:
    """MLflow's way in: `data_path` is the folder of the files that `finished_model` named."""
    folder = Path(data_path)
    run = load(folder)
    return Served(run, first_asked(run.blueprint), opened_folder())
