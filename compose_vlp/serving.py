"""A trained model as MLflow loads and serves it: rows of inputs in, one answer for each out.

`mlflow.pyfunc.load_model("runs:/RUN_ID/model").predict({"image": ["cat.jpg"]})`, or `mlflow models serve`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from compose_vlp.errors import UserError
from compose_vlp.run import Run, load
from compose_vlp.runtime.finished import PLUGINS


class Served:
    """A trained model behind MLflow's `predict`."""

    def __init__(self, run: Run, default: str) -> None:
        self.run = run
        self.default = default

    def predict(self, model_input: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> list[Any]:
        """One answer a row: a text of an output that writes, a list of numbers of one that is a value.

        Args:
            model_input: A column for each input that the output reads, in a DataFrame or a mapping of lists. A picture
                is a path, or its file in base64, alone or as a `data:` address.
            params: `output` (the one that writes texts if left out), `seed`, and `settings`, JSON such as
                `{"beams": 3}`.

        Raises:
            MlflowException: the caller's mistake, told as compose-vlp tells it; a server answers with status 400.
        """
        params = params or {}
        try:
            settings = json.loads(params.get("settings") or "{}")
            name = str(params.get("output") or self.default)
            return self._answers(name, model_input, int(params.get("seed") or 0), settings)
        except (UserError, ValueError) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _answers(self, name: str, given: Any, seed: int, settings: Mapping[str, Any]) -> list[Any]:
        output = self.run.outputs.get(name)
        if output is None:
            raise UserError(f"the model has no output {name!r}; it has {', '.join(self.run.outputs)}")
        reads = self.run.asker.inputs_read(name)
        missing = [one for one in reads if one not in given]
        if missing:
            raise UserError(f"output {name!r} reads {', '.join(reads)}; there is no {' and no '.join(missing)}")
        columns = {one: [self._read(one, value) for value in _cells(given[one])] for one in reads}
        if not all(columns.values()):
            return []
        answers = output(seed=seed, **columns, **settings)
        return answers if isinstance(answers, list) else list(answers.tolist())

    def _read(self, name: str, value: Any) -> Any:
        return picture_of(value) if self.run.blueprint.inputs[name].type == "image" else value


def _cells(column: Iterable[Any]) -> Iterator[Any]:
    """The values of a column: MLflow makes one row of a mapping of lists, with a list in each cell."""
    for cell in column:
        if isinstance(cell, list | tuple):
            yield from cell
        else:
            yield cell


def picture_of(value: Any) -> Any:
    """A picture that a caller sent: a path on this machine, or base64 of a picture file; anything else as it is.

    Raises:
        UserError: it is neither.
    """
    from compose_vlp.data.source import Encoded

    if not isinstance(value, str | bytes):
        return value
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    try:
        if not text.startswith("data:") and Path(text).is_file():
            return Path(text)
    except (OSError, ValueError):  # too long for a path: it is a picture itself
        pass
    try:
        packed = text.partition("base64,")[2] if text.startswith("data:") else text
        return Encoded(base64.b64decode(packed, validate=True), "the picture sent")
    except (binascii.Error, ValueError) as error:
        shown = text if len(text) < 80 else f"{text[:77]}..."
        raise UserError(f"{shown!r} is no path of a picture, and no picture in base64: {error}") from error


def _load_pyfunc(data_path: str) -> Served:
    """MLflow's way in: `data_path` is the folder of the files that `finished_model` named."""
    folder = Path(data_path)
    run = load(folder, plugins=sorted((folder / PLUGINS).glob("*.py")))
    writers = [name for name, output in run.blueprint.outputs.items() if output.form == "generate"]
    return Served(run, (writers or list(run.blueprint.outputs))[0])
