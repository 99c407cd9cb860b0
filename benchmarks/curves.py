"""Seconds of a step against batch, caption length, depth and processes: `python -m benchmarks.curves`.

    albef    beside the authors' order of calls            benchmarks.albef_step
    coca     beside open_clip's CoCa ViT-B/32              benchmarks.coca_step

Each point is a race as there: nothing is timed whose losses and gradients differ. From one point, with captions that
all have the same length, one thing is varied at a time. Over processes ours is alone: whole steps under `ddp`, with as
many rows and threads in each.

Every point is written into one file as soon as it is measured, and is not measured again. Of that file, a page and a
drawing are made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import albef_step, coca_step, curves_page
from benchmarks.turns import Times
from compose_vlp.bench.processes import Request, bench_processes, threads_of_each
from compose_vlp.bench.steps import COMPILED
from compose_vlp.files import write_atomic, write_together

PAPERS = ("albef", "coca")
OUT = {"base": "docs/results", "tiny": "build/curves"}


@dataclass(frozen=True)
class Point:
    """What a step is given: of several processes each; `processes` of 0 is a race."""

    paper: str
    batch: int
    words: int
    depth: int
    processes: int = 0

    @property
    def name(self) -> str:
        alone = f", processes {self.processes}" if self.processes else ""
        return f"{self.paper}, batch {self.batch}, words {self.words}, depth {self.depth}{alone}"


@dataclass(frozen=True)
class Grid:
    """The values along each axis, and the point of which one is varied at a time (its processes are not raced)."""

    batch: tuple[int, ...]
    words: tuple[int, ...]
    depth: tuple[int, ...]
    processes: tuple[int, ...]
    middle: tuple[int, int, int]

    def axes(self, paper: str) -> dict[str, list[Point]]:
        """Give the points along each axis."""
        middle = Point(paper, *self.middle)
        values = {"batch": self.batch, "words": self.words, "depth": self.depth, "processes": self.processes}
        return {axis: [replace(middle, **{axis: value}) for value in own] for axis, own in values.items()}


GRIDS = {
    "base": Grid((2, 4, 8), (8, 16, 24), (4, 8, 12), (1, 2), (4, 16, 12)),
    "tiny": Grid((2, 4), (8, 16), (1, 2), (1, 2), (2, 8, 2)),
}

RACES = {"albef": "benchmarks.albef_step --all", "coca": "benchmarks.coca_step"}


def main(words: Sequence[str] | None = None) -> int:
    """Measure the points that are missing, and write page and drawing; 1 where a point could not be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("papers", nargs="*", default=[], help=f"of {', '.join(PAPERS)}; all, if left out")
    parser.add_argument("--size", default="base", choices=tuple(GRIDS), help="tiny: to try the benchmark itself")
    parser.add_argument("--rounds", type=int, default=2, help="steps that are timed, after one that warms up")
    parser.add_argument("--out", type=Path, help="folder of curves.json, curves.svg and curves.md")
    arguments = parser.parse_args(words)
    if unknown := set(arguments.papers) - set(PAPERS):
        parser.error(f"nothing is measured of {', '.join(sorted(unknown))}; there are {', '.join(PAPERS)}")
    folder = arguments.out or Path(OUT[arguments.size])
    folder.mkdir(parents=True, exist_ok=True)
    grid, file = GRIDS[arguments.size], folder / "curves.json"
    kept = Kept(file, about(arguments))
    if kept.otherwise:
        parser.error(f"{file} was measured with {kept.otherwise}; `--out` names another folder")
    axes = {paper: grid.axes(paper) for paper in arguments.papers or PAPERS}
    failed = [point.name for point in points_of(axes) if not kept.ensure(point, lambda own: measure(own, arguments))]
    drawn = {paper: grid.axes(paper) for paper in PAPERS}
    curves = [curve for paper, own in drawn.items() for curve in curves_of(paper, own, kept.points)]
    if curves:
        page, picture = curves_page.write(curves, kept.about)
        write_together({folder / "curves.md": page, folder / "curves.svg": picture})
        print(page, end="")
    for name in failed:
        print(f"not measured: {name}", file=sys.stderr)
    return 1 if failed else 0


def about(arguments: argparse.Namespace) -> dict[str, Any]:
    """Collect what all points of a file have in common."""
    return {
        "size": arguments.size,
        "rounds": arguments.rounds,
        "threads": torch.get_num_threads(),
        "threads of a process": threads_of_each(GRIDS[arguments.size].processes),
        "torch": torch.__version__,
        "processor": _processor(),
    }


class Kept:
    """The file of the points that are measured; `otherwise` says what it was measured with, where that differs."""

    def __init__(self, file: Path, about: Mapping[str, Any]) -> None:
        self.file, self.about = file, dict(about)
        before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"about": self.about, "points": {}}
        self.points: dict[str, Times] = before["points"]
        other = {name: value for name, value in before["about"].items() if self.about.get(name) != value}
        self.otherwise = ", ".join(f"{name} {value}" for name, value in other.items())

    def ensure(self, point: Point, measure: Callable[[Point], Times | None]) -> bool:
        """Measure a point that is not there yet, and keep it; tell whether it is there now."""
        if point.name not in self.points:
            print(f"\n{point.name}", flush=True)
            times = measure(point)
            if times is None:
                return False
            self.points[point.name] = times
            write_atomic(self.file, json.dumps({"about": self.about, "points": self.points}, indent=1) + "\n")
        return True


def points_of(axes: Mapping[str, Mapping[str, Sequence[Point]]]) -> Iterator[Point]:
    """Give each point once."""
    yield from dict.fromkeys(point for own in axes.values() for points in own.values() for point in points)


def measure(point: Point, arguments: argparse.Namespace) -> Times | None:
    """Time each step of each candidate, in seconds; None where their numbers differ, which is printed."""
    if point.processes:
        return alone(point, arguments)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "race.json"
        line = f"{RACES[point.paper]} --size {arguments.size} --rounds {arguments.rounds} --no-flops --json {file}"
        shape = f"--batch {point.batch} --depth {point.depth} --words {point.words} {point.words}"
        code = subprocess.run([sys.executable, "-m", *f"{line} {shape}".split()], check=False).returncode
        pairs: dict[str, Times] = json.loads(file.read_text(encoding="utf-8"))["seconds"] if code == 0 else {}
    measured: Times = {}
    for pair in pairs.values():
        for name, seconds in pair.items():
            measured.setdefault(name, seconds)  # each pair has ours, of which the first stands for all
    return measured or None


def alone(point: Point, arguments: argparse.Namespace) -> Times:
    """Time each step of ours in so many processes, each with the point's rows."""
    (measured,) = bench_processes(request(point, arguments), [point.processes]).points.values()
    return {"ours": list(measured.programs[0].seconds)}


def request(point: Point, arguments: argparse.Namespace) -> Request:
    """Ask each of the processes for the compiled program, with texts as long as their frame."""
    if point.paper == "albef":
        paper = albef_step.PAPER
        name, changes = getattr(paper, arguments.size), [*paper.quiet, *paper.layers(point.depth)]
    else:
        line = f"--size {arguments.size} --depth {point.depth}".split()
        _, overrides = coca_step.shape(coca_step.command_line().parse_args(line))
        name, changes = "coca_openclip_vit_b_32", [*overrides, "precision=fp32", "~outputs.caption"]
    return Request(
        names=(name,),
        overrides=(*changes, f"inputs.caption.max_length={point.words}"),
        batch=point.batch,
        rounds=arguments.rounds,
        threads=threads_of_each(GRIDS[arguments.size].processes),
        programs=(COMPILED,),
    )


def curves_of(
    paper: str, axes: Mapping[str, Sequence[Point]], points: Mapping[str, Times]
) -> Iterator[curves_page.Curve]:
    """Give the curves of which all points are there."""
    for axis, own in axes.items():
        if all(point.name in points for point in own):
            held = {name: getattr(own[0], name) for name in ("batch", "words", "depth") if name != axis}
            measured = {getattr(point, axis): points[point.name] for point in own}
            yield curves_page.Curve(paper, axis, measured, held)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "not known")


if __name__ == "__main__":
    sys.exit(main())
