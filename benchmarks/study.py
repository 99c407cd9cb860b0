"""What studies share: cells that are computed once and kept as files, a budget of time, means with their spread."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compose_vlp.api import Blueprint
from compose_vlp.data import open_source
from compose_vlp.evaluation.retrieval import evaluate_retrieval
from compose_vlp.files import write_atomic
from compose_vlp.run import Run, load
from compose_vlp.runtime.training.trainer import TrainOptions

ONE = {"use": "scenes", "min_objects": 1, "max_objects": 1}
"""Pictures of one object: colour, shape, size and place are learnt within some hundred steps."""
UNSEEN = {**ONE, "split": "unseen"}
SMALL = ("inputs.image.size=48", "inputs.image.augment=null", "components.memory.size=128")
"""Less here than in the tiny models: pixels, cropping, which moves things that captions place, and the queue."""


class OutOfTime(Exception):
    """The budget is spent; what is finished is kept."""


class Cells:
    """The cells of a study: each is a JSON file, made once; below `runs/` are the models that they are measured of."""

    def __init__(self, folder: Path, budget_min: float) -> None:
        self.folder, self.budget_s, self.spent_s = folder, 60 * budget_min, 0.0
        folder.mkdir(parents=True, exist_ok=True)

    def cell(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return what the cell holds; it is computed where it is not there yet.

        Raises:
            OutOfTime: it is not there, and the budget of CPU time is spent.
        """
        file = self.folder / f"{name}.json"
        if not file.is_file():
            if self.spent_s >= self.budget_s:
                raise OutOfTime
            began = time.process_time()
            result = dict(compute())
            seconds = time.process_time() - began
            self.spent_s += seconds
            write_atomic(file, json.dumps({**result, "cpu_seconds": round(seconds, 1)}, indent=2) + "\n")
            print(f"{name}: {seconds:.0f} s", flush=True)
        read: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return read

    def run(self, name: str) -> Path:
        """A run's folder; what a process that was killed left in it is gone."""
        path = self.folder / "runs" / name
        if path.exists() and json.loads((path / "run.json").read_text(encoding="utf-8"))["status"] != "FINISHED":
            shutil.rmtree(path)
        return path

    def trained(self, name: str, blueprints: str | Sequence[str], overrides: Sequence[str], seed: int) -> Run:
        """A trained model: the one of before, or a new one."""
        path = self.run(name)
        if path.exists():
            return load(path)
        options = TrainOptions(seed=seed, workers=0, checkpoint_every=10**9)
        names = [blueprints] if isinstance(blueprints, str) else blueprints
        return Blueprint.load(*names, overrides=overrides).train(out=path, options=options, track=False)

    def seconds(self) -> float:
        """CPU time of all cells."""
        files = self.folder.glob("*.json")
        return float(sum(json.loads(file.read_text(encoding="utf-8")).get("cpu_seconds", 0) for file in files))


def parser(description: str, folder: str, steps: int) -> argparse.ArgumentParser:
    """The options that every study has."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("runs") / folder, help="where cells and runs are kept")
    options.add_argument("--steps", type=int, default=steps, help="steps that each model is trained")
    options.add_argument("--seeds", type=int, default=3, help="seeds of each cell")
    options.add_argument("--budget", type=float, default=600.0, help="CPU minutes, after which no cell is begun")
    options.add_argument("--pictures", type=int, default=1000, help="unseen pictures that retrieval is measured on")
    return options


def same_study(folder: Path, asked: Mapping[str, Any]) -> None:
    """Note what a study is made with, or stop where its folder has cells made with other settings."""
    file = folder / "study.json"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(dict(asked), indent=2) + "\n")
    elif (before := json.loads(file.read_text(encoding="utf-8"))) != asked:
        raise SystemExit(f"{folder} has cells of other settings: {before}; `--out` takes another folder")


def retrieval(run: Run, pictures: int) -> dict[str, float]:
    """Recalls on unseen pictures with right captions, in percent."""
    recalls = evaluate_retrieval(run.asker, open_source({**UNSEEN, "count": pictures}), pictures)
    return {name: 100 * value for name, value in recalls.flat().items()}


def written(settings: Mapping[str, Any]) -> str:
    """Settings as an override writes them."""
    return "{" + ", ".join(f"{key}: {value}" for key, value in settings.items()) + "}"


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Mean and standard deviation over the seeds; `-` where there is none yet."""
    if not values:
        return "-"
    around = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{form}}{around}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
