"""What the machine does while a run trains, measured by the sender, under the names that MLflow's pages know."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Protocol

import psutil
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

from compose_vlp.tracking.layout import TrackFolder
from compose_vlp.tracking.outbox import Outbox, count_lines
from compose_vlp.tracking.records import Metrics


class _Monitor(Protocol):
    def collect_metrics(self) -> None: ...
    def aggregate_metrics(self) -> dict[str, float]: ...
    def clear_metrics(self) -> None: ...


class SystemSampler:
    """Adds a record to the system's outbox every `interval_s` seconds.

    Args:
        folder: The run's tracking files.
        interval_s: Seconds between two samples; 0 is never.
        process_id: The training process, whose own memory is measured as well.
    """

    def __init__(self, folder: TrackFolder, interval_s: float, process_id: int) -> None:
        self._outbox = Outbox(folder.system)
        self._step = count_lines(folder.system, 0)
        self._interval_s = interval_s
        self._next = 0.0
        self._process_id = process_id
        self._monitors: list[_Monitor] = [CPUMonitor()]  # type: ignore[no-untyped-call]
        with suppress(ImportError, RuntimeError):  # no NVIDIA driver, or no Python binding to it
            self._monitors.append(GPUMonitor())  # type: ignore[no-untyped-call]
        self._measure()  # processor use is counted since the look before

    def sample_when_due(self) -> None:
        if self._interval_s and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval_s
            values = {f"system/{name}": value for name, value in self._measure().items()}
            self._outbox.add(Metrics(self._step, int(time.time() * 1000), values))
            self._step += 1

    def _measure(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        with suppress(psutil.Error):  # it may just have ended
            values["process_memory_megabytes"] = psutil.Process(self._process_id).memory_info().rss / 1e6
        return values
