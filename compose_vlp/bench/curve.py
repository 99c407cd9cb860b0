"""A stage's step along the values of a setting, or over numbers of processes: a table, JSON, and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from compose_vlp.bench.steps import Prepared
from compose_vlp.bench.timed import Bench, Timed
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.readable import count, several, storage, work
from compose_vlp.report.drawing import for_file
from compose_vlp.report.panels import Panel, panels_plot


@dataclass(frozen=True)
class Curve:
    """What was measured at each value of `across`, a path or `processes`, in the order of the values."""

    across: str
    points: Mapping[str, Bench]

    def as_json(self) -> list[dict[str, Any]]:
        """For `--json`; without the most that a process held, which points of one process share."""
        return [
            {"value": value, **{name: own for name, own in bench.as_json().items() if name != "peak_bytes"}}
            for value, bench in self.points.items()
        ]

    def text(self) -> Group:
        """Put it into a table, for people."""
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for heading in ("value", "program", "a step", "rows/s", "work", "activations", "times as long"):
            table.add_column(heading, justify="left" if heading in ("value", "program") else "right")
        for value, bench in self.points.items():
            for program in bench.programs:
                ratio = f"{_ratio(program, bench.programs[0]):.2f}" if program is not bench.programs[0] else ""
                table.add_row(
                    value,
                    program.name,
                    f"{program.median:.3g} s",
                    f"{bench.rows / program.median:.3g}",
                    "not known" if program.flops is None else work(program.flops),
                    "not known" if program.kept_bytes is None else storage(program.kept_bytes),
                    ratio,
                )
        first = next(iter(self.points.values()))
        threads = f", {several(first.threads, 'thread')}" if first.device == "cpu" else ""
        each = " in each process" if self.across == PROCESSES else ""
        heading = f"Stage {first.stage} along {self.across}: {first.precision}, {first.device}{threads}{each}"
        return Group(Text(heading, style="bold"), table)

    def picture(self) -> str:
        """Draw seconds, rows a second, work and bytes kept, as SVG for a file."""
        stage = next(iter(self.points.values())).stage
        each = " of a process" if self.across == PROCESSES else ""
        panels = [
            self._panel("seconds of a step", lambda _, program: program.median, "{:.3g}".format),
            self._panel("rows a second", lambda bench, program: bench.rows / program.median, count),
            self._panel(f"work{each}", lambda _, program: program.flops, work),
            self._panel(f"kept for the backward{each}", lambda _, program: program.kept_bytes, storage),
        ]
        drawn = [panel for panel in panels if panel.series]
        return for_file(panels_plot(f"A step of stage {stage} along {self.across}", drawn, columns=2))

    def _panel(self, title: str, read: Callable[[Bench, Timed], float | None], write: Callable[[float], str]) -> Panel:
        series: dict[str, list[tuple[str, float]]] = {}
        for value, bench in self.points.items():
            for program in bench.programs:
                if (number := read(bench, program)) is not None:
                    series.setdefault(program.name, []).append((value, number))
        return Panel(title, self.across, series, write)


PROCESSES = "processes"
"""What a curve over numbers of processes is along."""


def bench_values(
    path: str,
    blueprints: Mapping[str, CheckedBlueprint],
    *,
    stage: str | None = None,
    batch: int | None = None,
    rounds: int = 5,
    device: torch.device,
    tick: Callable[[str], None] = lambda _: None,
) -> Curve:
    """Time a stage's steps as `bench` does, with each value of a path; `blueprints` are those of the values.

    `tick` is told each value before its steps begin.

    Raises:
        UserError: before anything is timed: no such stage; a step with one of the values does not fit into memory.
    """
    prepared = {value: Prepared(blueprint, stage, batch) for value, blueprint in blueprints.items()}
    for value, own in prepared.items():
        own.make_sure_it_fits(device, f"a step with `{path}={value}`")
    points = {}
    for value, own in prepared.items():
        tick(f"{path}={value}")
        points[value] = own.bench(rounds, device)
    return Curve(path, points)


def _ratio(program: Timed, first: Timed) -> float:
    return statistics.median(there / here for there, here in zip(program.seconds, first.seconds, strict=True))
