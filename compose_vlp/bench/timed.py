"""What was measured of a stage's step: the seconds of each of its programs, beside what shapes say."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from compose_vlp.readable import percent, several, storage, work


@dataclass(frozen=True)
class Timed:
    """A program: seconds of each of its steps, FLOPs and bytes kept for the backward (None where not known)."""

    name: str
    seconds: tuple[float, ...]
    flops: int | None
    kept_bytes: int | None

    @property
    def median(self) -> float:
        """Seconds of a step in the middle."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Bench:
    """What was measured of one stage; `peak_flops` are those of a large matrix product here, a second."""

    stage: str
    rows: int
    precision: str
    device: str
    threads: int
    peak_flops: float
    peak_bytes: int
    programs: tuple[Timed, ...]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        medians = [program.median for program in self.programs]
        programs = [{**asdict(each), "median": median} for each, median in zip(self.programs, medians, strict=True)]
        return {**asdict(self), "programs": programs}

    def text(self) -> Group:
        """Put it into a table, for people."""
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for heading in ("program", "a step", "rows/s", "work", "of the peak", "activations"):
            table.add_column(heading, justify="left" if heading == "program" else "right")
        for program in self.programs:
            rate = program.flops / program.median / self.peak_flops if program.flops else None
            table.add_row(
                program.name,
                f"{program.median:.3g} s",
                f"{self.rows / program.median:.3g}",
                "not known" if program.flops is None else work(program.flops),
                "not known" if rate is None else percent(rate),
                "not known" if program.kept_bytes is None else storage(program.kept_bytes),
            )
        threads = f", {several(self.threads, 'thread')}" if self.device == "cpu" else ""
        compiled, plain = self.programs
        pairs = [there / here for there, here in zip(plain.seconds, compiled.seconds, strict=True)]
        factor = f"{statistics.median(pairs):.2f} times as long ({min(pairs):.2f} to {max(pairs):.2f})"
        here = f"A matrix product reaches {work(self.peak_flops)} a second here"
        lines = [
            f"Step by step, {plain.name} takes {factor}.",
            f"{here}; the process held {storage(self.peak_bytes)} at most.",
        ]
        heading = f"Stage {self.stage}: {several(self.rows, 'row')} a step, {self.precision}, {self.device}{threads}"
        return Group(Text(heading, style="bold"), table, *map(Text, lines))
