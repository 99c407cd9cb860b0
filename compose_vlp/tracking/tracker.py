"""What training says about a run, and the two who listen: an outbox with a sender, and nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from compose_vlp.tracking.records import DataSet, Ending, Model

Param: TypeAlias = str | int | float | bool | None


class Tracker(Protocol):
    """One run as its training sees it. No call waits for a server or raises because of one."""

    @property
    def run_id(self) -> str | None:
        """The run in MLflow; None while it has not been made there."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Values at a step. The first one said for a key and a step counts, later ones are dropped."""

    def params(self, values: Mapping[str, Param]) -> None:
        """Settings. What changes when a run is resumed becomes a tag `resumed.<name>`: MLflow's params never change."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Words about the run; the last one said counts."""

    def artifacts(self, paths: Mapping[str, Path]) -> None:
        """Files and folders under their names. Those in the run folder are sent as they are then, others as now."""

    def data_sets(self, data_sets: Sequence[DataSet]) -> None:
        """Record what the run reads; a data set with the same digest as an earlier one is recorded once."""

    def model(self, model: Model) -> None:
        """The finished model, of files in the run folder. They have to stay until the sender has sent them."""

    def flush(self) -> None:
        """Wait until the disk has what was said: before a checkpoint, so that a resumed run has lost nothing."""

    def finish(self, status: Ending, wait_s: float = 30.0) -> str | None:
        """End the run and wait for the sender, at most `wait_s` seconds. Returns what to tell if something remains."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def ending_of(kind: type[BaseException] | None) -> Ending:
    """How a run that leaves with this exception ended: a stop is KILLED, anything else FAILED."""
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, (KeyboardInterrupt, SystemExit)) else "FAILED"


class NullTracker:
    """Listens to nothing: `--no-track`, and every process of a run but the first."""

    run_id: str | None = None

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def params(self, values: Mapping[str, Param]) -> None: ...

    def tags(self, values: Mapping[str, str]) -> None: ...

    def artifacts(self, paths: Mapping[str, Path]) -> None: ...

    def data_sets(self, data_sets: Sequence[DataSet]) -> None: ...

    def model(self, model: Model) -> None: ...

    def flush(self) -> None: ...

    def finish(self, status: Ending, wait_s: float = 30.0) -> str | None:  # noqa: ARG002 - as `Tracker` has it
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
