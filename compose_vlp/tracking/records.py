"""What a run tells its tracker: one record a line, in the order in which it was said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Ending: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]
Status: TypeAlias = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

ENDINGS: frozenset[str] = frozenset({"FINISHED", "FAILED", "KILLED"})


@dataclass(frozen=True)
class Metrics:
    """Values at one step; `time_ms` is when they were measured, in milliseconds since 1970."""

    step: int
    time_ms: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Params:
    """Settings of the run."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class Tags:
    """Words about the run."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class Artifact:
    """A file or folder; `path` is relative to the run folder, so that a moved run can still be sent."""

    name: str
    path: str


@dataclass(frozen=True)
class DataSet:
    """A data set that the run reads.

    Attributes:
        name: The entry's name under `data`.
        digest: Of its settings and the files that they name.
        source: The kind that reads it, such as `jsonl`.
        settings: What its entry says, as JSON.
        context: What it is read for, such as `training`.
    """

    name: str
    digest: str
    source: str
    settings: str
    context: str


@dataclass(frozen=True)
class Model:
    """A finished model that MLflow is to have in its own format, so that its tools can load and serve it.

    Attributes:
        name: The folder that it has in MLflow.
        files: The files and folders that it is loaded from, by their place in it; paths as an `Artifact`'s.
        loader: The module whose `_load_pyfunc(folder)` loads it. No pickle: the code is imported, not stored.
        inputs: Names of what it may be given, each with MLflow's name of its type.
        output: The output that answers where a caller names none.
        answer: MLflow's name of the type of its answers: `string`, or `double` for lists of numbers.
        example: A value for each input that this output reads.
        step: Of the weights.
        requirements: Packages that it needs, as pip takes them.
    """

    name: str
    files: Mapping[str, str]
    loader: str
    inputs: Mapping[str, str]
    output: str
    answer: str
    example: Mapping[str, str | float]
    step: int
    requirements: Sequence[str]


@dataclass(frozen=True)
class StatusChange:
    """The run goes on, or has ended; `time_ms` as for `Metrics`."""

    status: Status
    time_ms: int


Record: TypeAlias = Metrics | Params | Tags | Artifact | DataSet | Model | StatusChange

_KINDS: dict[str, type[Record]] = {
    "metrics": Metrics,
    "params": Params,
    "tags": Tags,
    "artifact": Artifact,
    "data_set": DataSet,
    "model": Model,
    "status": StatusChange,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(record: Record) -> bytes:
    """One line of JSON. Values that are not finite are written as Python writes them (`NaN`), for `decode`."""
    return json.dumps({"kind": _NAMES[type(record)], **vars(record)}, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Record | None:
    """The record of a line; None where the line is damaged."""
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("kind")](**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
