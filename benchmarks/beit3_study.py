"""Measure what BEiT-3's masked modelling is worth to a tiny model that is fine-tuned afterwards.

For each seed tiny/beit3 is pretrained on `scenes` by masked words and patches alone. From there, and from nothing, it
is fine-tuned by the same recipe for retrieval, questions and captions, each apart; and for easy-VQA's questions, where
its folder is given. Every finished cell is a file: run again with the same options it does what is missing. Prints a
table in Markdown, with differences seed by seed and their 95 % intervals.

    .venv/bin/python -m benchmarks.beit3_study                             # all on scenes
    .venv/bin/python -m benchmarks.beit3_study --easy-vqa easy_vqa         # and on real questions
    .venv/bin/python -m benchmarks.beit3_study --seeds 1 --budget 10       # a part, in so many CPU minutes
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.study import ONE, UNSEEN, Cells, OutOfTime, parser, same_study, table, written
from compose_vlp.data import Source, open_source
from compose_vlp.data.scenes.scoring import named_objects
from compose_vlp.evaluation.captioning import Captions
from compose_vlp.evaluation.results import evaluate
from compose_vlp.report.statistics import Difference, Estimate, difference, estimate

STEPS = 200
SIZES = (
    "inputs.image.size=48",
    "inputs.image.augment=null",
    "components.patches_of.width=64",
    "components.words_of.width=64",
)
RATE = "{cosine: [1e-3, 1e-5], warmup: 30 steps}"
ANSWERS = "circle green red gray yes teal black rectangle yellow triangle brown blue no"
ARMS = ("scratch", "pretrained")
EASY = "easy-VQA"
NAMED = "named_objects"


@dataclass(frozen=True)
class Task:
    """A fine-tuning: blueprints over tiny/beit3, overrides, the entry of its data, and what is measured of how many.

    `share` is the number of steps in units of the study's.
    """

    blueprints: tuple[str, ...]
    overrides: tuple[str, ...]
    data: str
    measured: str
    scores: Mapping[str, str]
    new: tuple[str, ...]
    count: int
    share: int = 1


TASKS = {
    "retrieval": Task(
        ("tasks/beit3/retrieval", "tiny/tasks/contrastive_retrieval"),
        (
            "components.backbone.drop_path=0",
            "components.image_proj.out=64",
            "components.text_proj.out=64",
            "~optimizer.layer_decay",
        ),
        "captions",
        "retrieval",
        {
            "image_to_text_recall_at_1": "text for a picture, R@1",
            "text_to_image_recall_at_1": "picture for a text, R@1",
            "mean_recall": "mean of R@1, 5, 10",
        },
        ("image_proj", "text_proj", "similarity"),
        1000,
    ),
    "questions": Task(
        ("tiny/tasks/vqa_classify",), (), "questions", "classification", {"accuracy": "right answers"}, ("judge",), 1000
    ),
    "captions": Task(
        ("tiny/tasks/masked_captioning",),
        (),
        "captions",
        "captioning",
        {"cider": "CIDEr-D, times 100", NAMED: "objects named with colour and shape"},
        (),
        200,
    ),
}


def easy_vqa(folder: Path) -> Task:
    """Questions on pictures of one coloured shape, those of pictures whose number ends in 0 held out."""
    classes = ", ".join(f"'{answer}'" for answer in ANSWERS.split())
    data = written({"use": "jsonl", "path": f"'{folder / 'rest.jsonl'}'"})
    overrides = (f"inputs.answer.classes=[{classes}]", "components.judge.classes=13", f"data.questions={data}")
    scores = {"accuracy": "right answers", "accuracy_of_commonest_class": "always the commonest answer"}
    return Task(("tiny/tasks/vqa_classify",), overrides, "questions", "classification", scores, ("judge",), 3899, 3)


def split(source: Path, folder: Path) -> None:
    """Write `rest.jsonl` and `heldout.jsonl`, in which pictures have absolute paths."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [json.loads(line) for line in (source / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    for name, held in (("rest", False), ("heldout", True)):
        chosen = [record for record in records if record["image"].endswith("0.png") == held]
        lines = [json.dumps({**record, "image": str((source / record["image"]).resolve())}) for record in chosen]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Train, measure, print; 3 where the budget ended it."""
    options = parser(str(__doc__), "beit3", STEPS)
    options.add_argument("--pretraining", type=int, default=2 * STEPS, help="steps of masked modelling")
    options.add_argument("--easy-vqa", type=Path, help="a folder with easy-VQA's train.jsonl and images")
    arguments = options.parse_args()
    same_study(arguments.out, {name: getattr(arguments, name) for name in ("steps", "pretraining", "pictures")})
    cells, code = Cells(arguments.out, arguments.budget), 0
    tasks = {**TASKS, "retrieval": replace(TASKS["retrieval"], count=arguments.pictures)}
    if arguments.easy_vqa is not None:
        split(arguments.easy_vqa, arguments.out.absolute() / "easy_vqa")
        tasks[EASY] = easy_vqa(arguments.out.absolute() / "easy_vqa")
    done: dict[tuple[str, str], dict[int, dict[str, Any]]] = {(name, arm): {} for name in tasks for arm in ARMS}
    try:
        for seed in range(arguments.seeds):
            _pretrained(cells, seed, arguments)
            for name, task in tasks.items():
                for arm in ARMS:
                    done[name, arm][seed] = _cell(cells, name, task, arm, seed, arguments)
    except OutOfTime:
        code = 3
    rows = [row for name, task in tasks.items() for row in _rows(name, task, done)]
    print(f"\n{table(['task', 'score', 'seeds', *ARMS, 'difference'], rows)}")
    print(f"\n{arguments.pretraining} and {arguments.steps} steps, {cells.seconds() / 60:.0f} CPU minutes")
    if code:
        print("the budget is spent: run again to go on")
    return code


def _pretrained(cells: Cells, seed: int, arguments: argparse.Namespace) -> None:
    def compute() -> dict[str, Any]:
        sources: dict[str, dict[str, Any]] = {"pictures": {"seed": 1}, "texts": {"seed": 2}, "pairs": {}}
        data = [f"data.{name}={written({**ONE, **more})}" for name, more in sources.items()]
        lengths = ["stages.codes.length=60 steps", f"stages.pretrain.length={arguments.pretraining} steps"]
        overrides = [*SIZES, *data, *lengths, f"params.lr={RATE}"]
        return {"run": str(cells.trained(f"pretrained_seed_{seed}", "tiny/beit3", overrides, seed).folder.path)}

    cells.cell(f"pretrained_seed_{seed}", compute)


def _cell(cells: Cells, name: str, task: Task, arm: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    label = f"{name}_{arm}_seed_{seed}"

    def compute() -> dict[str, Any]:
        lengths = ["stages.finetune.batch=32", f"stages.finetune.length={task.share * arguments.steps} steps"]
        overrides = [*SIZES, *task.overrides, f"optimizer.lr={RATE}", *lengths]
        if name != EASY:
            overrides.append(f"data.{task.data}={written(ONE)}")
        if arm == "pretrained":
            start = cells.run(f"pretrained_seed_{seed}").absolute()
            new = f", {{new: [{', '.join(task.new)}]}}" if task.new else ""
            overrides.append(f"start=[{{from: '{start}'}}{new}]")
        run = cells.trained(label, ("tiny/beit3", *task.blueprints), overrides, seed)
        unseen: Mapping[str, Any] = {**UNSEEN, "count": task.count}
        if name == EASY:
            unseen = {"use": "jsonl", "path": str(arguments.out.absolute() / "easy_vqa" / "heldout.jsonl")}
        source = open_source(unseen)
        results = evaluate(run.asker, source, [task.measured], task.count)
        scores = {name.partition(".")[2]: value for name, value in results.scores.items()}
        measured = results.tasks[task.measured]
        if isinstance(measured, Captions):
            scores[NAMED] = _named(measured, source)
        return {score: 100 * scores[score] for score in task.scores}

    return cells.cell(label, compute)


def _named(captions: Captions, source: Source) -> float:
    """The share of the pictures' objects that are named with their colour and shape."""
    scenes = [source.record(row)["scene"] for row in captions.rows]
    return statistics.fmean(map(named_objects, captions.captions, scenes))


def _rows(name: str, task: Task, done: Mapping[tuple[str, str], Mapping[int, Mapping[str, Any]]]) -> list[list[str]]:
    rows = []
    for score, heading in task.scores.items():
        values = [{seed: cell[score] for seed, cell in done[name, arm].items()} for arm in ARMS]
        gain = difference(values[1], values[0])
        seeds = str(min(map(len, values)))
        rows.append([name, heading, seeds, *(_mean(list(each.values())) for each in values), _gain(gain)])
    return rows


def _mean(values: Sequence[float]) -> str:
    return _written(estimate(values)) if values else "-"


def _written(value: Estimate) -> str:
    return f"{value.mean:.1f}" + ("" if value.half is None else f" ± {value.half:.1f}")


def _gain(gain: Difference | None) -> str:
    if gain is None:
        return "-"
    low, high = gain.estimate.low, gain.estimate.high
    interval = "" if low is None or high is None else f" [{low:+.1f}, {high:+.1f}]"
    return f"{gain.estimate.mean:+.1f}{interval}"


if __name__ == "__main__":
    sys.exit(main())
