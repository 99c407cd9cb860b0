"""A training step that is fed from picture files beside the same step on batches that are ready in memory.

The files are real PNGs and JPEGs (drawn here at 640 x 480, or those of a table of your own), decoded, cropped, resized
and tokenised by the loader with the number of worker processes that a training run takes. Blocks of steps alternate
in one process: `ready`, with no worker alive; `fed`, with the loader reading ahead. The first step of every block is
left out, and of `fed` it is the one that waits for workers to start, which a run has once.

    waiting     share of the fed steps' time in which the next batch was not there
    slower      how much longer the fed steps take, waiting and workers' use of the cores included
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.data import Source, open_source
from compose_vlp.data.corpus import prepare_tokenizers
from compose_vlp.data.loader import Loader
from compose_vlp.runtime.sources import open_tokenizers
from compose_vlp.runtime.training.stage_run import choose_workers
from compose_vlp.values import Value

WAITING, SLOWER = 0.02, 0.05
"""What a run may lose to its input: shares of a step."""


class Times(NamedTuple):
    """Of one step, in seconds: until its batch was there, and in all."""

    waiting: float
    whole: float


def main() -> int:
    """Draw, time, print; 1 where input costs more than it may."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        table = arguments.data or _draw(Path(folder), arguments.pictures)
        source = open_source({"use": "csv", "path": str(table)})
        bench = Bench(arguments.model, source, arguments.batch, arguments.precision, arguments.workers)
        ready = bench.batches(workers=0)
        kept = [next(ready) for _ in range(2)]
        times: dict[str, list[Times]] = {"ready": [], "fed": []}
        for number in range(arguments.rounds):
            times["ready"] += bench.steps(_again(kept), arguments.steps)
            times["fed"] += bench.steps(bench.batches(bench.workers), arguments.steps)
            _print_round(number, times, arguments.steps)
    return _print(times, bench, arguments)


class Bench:
    """A model with its optimizer, and the loader that a training run of it has."""

    def __init__(self, model: str, source: Source, batch: int, precision: str, workers: int | None) -> None:
        blueprint = Blueprint.load(model, overrides=["inputs.image.augment={crop: [0.5, 1], flip: 0.5}"])
        self.checked = blueprint.check()
        (self.stage,) = self.checked.stages
        self.program = blueprint.compile(self.stage)[self.stage].run
        self.model = build(self.checked).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        self.precision, self.batch, self.source = precision, batch, source
        self.workers = choose_workers(workers, source)
        self.tokenizers = open_tokenizers(self.checked)
        prepare_tokenizers(self.tokenizers, self.checked.inputs, {"main": source})

    def batches(self, workers: int) -> Iterator[dict[str, Value]]:
        """Batches as a run has them."""
        loader = Loader(self.source, self.checked.inputs, self.tokenizers, batch=self.batch, workers=workers)
        for batch in loader:
            yield batch.values

    def steps(self, batches: Iterator[dict[str, Value]], count: int) -> list[Times]:
        """So many optimiser steps and one before them, which is not told."""
        times = [self._step(batches) for _ in range(count + 1)]
        if hasattr(batches, "close"):
            batches.close()  # and with it the workers
        return times[1:]

    def _step(self, batches: Iterator[dict[str, Value]]) -> Times:
        began = time.perf_counter()
        values = next(batches)
        there = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            losses = self.model(self.program, values)
        torch.stack([loss.value for loss in losses.values()]).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Times(there - began, time.perf_counter() - began)


def _again(kept: list[dict[str, Value]]) -> Iterator[dict[str, Value]]:
    while True:
        yield from kept


def _draw(folder: Path, count: int) -> Path:
    """Pictures with the detail of photographs, half of them PNG, and a table of captions."""
    drawn = open_source({"use": "scenes", "size": 480})
    grain = np.random.default_rng(0)
    with (folder / "captions.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "caption"])
        for number in range(count):
            record: Any = drawn.record(number)
            square = np.asarray(record["image"](), np.int16)
            wide = np.pad(square, ((0, 0), (80, 80), (0, 0)), mode="edge") + grain.integers(-12, 13, (480, 640, 1))
            name = f"{number:04d}.{'png' if number % 2 else 'jpg'}"
            Image.fromarray(wide.clip(0, 255).astype(np.uint8)).save(folder / name, quality=90)
            table.writerow([name, record["caption"]])
    return folder / "captions.csv"


def _print_round(number: int, times: dict[str, list[Times]], steps: int) -> None:
    lasts = {name: statistics.median(step.whole for step in measured[-steps:]) for name, measured in times.items()}
    print(f"round {number + 1}: " + ", ".join(f"{name} {seconds:.3f} s a step" for name, seconds in lasts.items()))
    sys.stdout.flush()


def _print(times: dict[str, list[Times]], bench: Bench, arguments: argparse.Namespace) -> int:
    fed, ready = times["fed"], statistics.median(step.whole for step in times["ready"])
    waiting = sum(step.waiting for step in fed) / sum(step.whole for step in fed)
    slower = statistics.median(step.whole for step in fed) / ready - 1
    print(
        f"{arguments.model}, batch {arguments.batch}, {arguments.precision}, {torch.get_num_threads()} threads on "
        f"{os.cpu_count()} cores, {bench.workers} worker processes, {len(fed)} steps of each"
    )
    print(f"waiting {waiting:7.2%}   (at most {WAITING:.0%})")
    print(f"slower  {slower:7.2%}   (at most {SLOWER:.0%})")
    return 0 if waiting < WAITING and slower <= SLOWER else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="coca_base", help="blueprint whose one stage is timed")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--workers", type=int, help="worker processes; as many as a run takes if left out")
    parser.add_argument("--rounds", type=int, default=3, help="blocks of each kind")
    parser.add_argument("--steps", type=int, default=3, help="measured steps of a block")
    parser.add_argument("--pictures", type=int, default=96, help="pictures that are drawn")
    parser.add_argument("--data", type=Path, help="a CSV with columns `image` and `caption`, instead of drawn ones")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
