"""The demonstration: a small CoCa learns drawn pictures in minutes; what it could do before, and what after."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.data.scenes.scoring import named_objects
from compose_vlp.data.source import Source, open_source
from compose_vlp.evaluation.captioning import Captions, evaluate_captioning
from compose_vlp.evaluation.page import Example, Section, Tile, gallery, results_page, tiles
from compose_vlp.evaluation.retrieval import Recall, evaluate_retrieval
from compose_vlp.files import write_atomic
from compose_vlp.pages import Series, curves, join
from compose_vlp.readable import duration, percent
from compose_vlp.run import Run
from compose_vlp.runtime.inference.outputs import Asker
from compose_vlp.runtime.training.listener import Listener
from compose_vlp.runtime.training.loop import StepReport
from compose_vlp.runtime.training.summary import Summary
from compose_vlp.runtime.training.trainer import TrainOptions

BLUEPRINT = "tiny/coca"
PICTURES = 1000
"""Unseen pictures among which the right one has to be found."""
CAPTIONS = 300
"""Unseen pictures that are captioned."""
SHOWN = 18


@dataclass(frozen=True)
class Skill:
    """What a model can do on unseen pictures: recall, captions, and the share of objects that these name rightly."""

    recall: Recall
    captions: Captions
    named: float

    def flat(self) -> dict[str, float]:
        """One name for each number."""
        return {**self.recall.flat(), **self.captions.scores.flat(), "objects_named": self.named}


@dataclass(frozen=True)
class Demo:
    """A finished demonstration."""

    run: Run
    before: Skill
    after: Skill
    page: Path
    seconds: float


@dataclass
class Curves:
    """Listens to training for the page's curves, and hands everything on to another listener."""

    listener: Listener
    losses: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def stage(self, name: str, first: int, steps: int) -> None:
        self.listener.stage(name, first, steps)

    def step(self, report: StepReport) -> None:
        for name, value in report.losses.items():
            self.losses.setdefault(name, []).append((report.step, value))
        self.listener.step(report)

    def evaluated(self, data: str, step: int, scores: Mapping[str, float]) -> None:
        self.listener.evaluated(data, step, scores)

    def note(self, text: str) -> None:
        self.listener.note(text)

    def end(self, summary: Summary) -> None:
        self.listener.end(summary)


def run_demo(
    listener: Listener,
    *,
    out: Path | None = None,
    options: TrainOptions | None = None,
    overrides: tuple[str, ...] = (),
    track: bool = True,
    tick: Callable[[str, int], None] = lambda *_: None,
) -> Demo:
    """Train the tiny CoCa, measure it before and after, and write the page.

    The untrained model is measured after training: it is made again from the seed.
    """
    began = time.monotonic()
    options = options or TrainOptions()
    watched = Curves(listener)
    run = Blueprint.load(BLUEPRINT, overrides=overrides).train(
        out=out, options=options, track=track, listener=watched, command=["compose-vlp", "demo"]
    )
    trained = run.asker
    fresh = Asker(run.blueprint, build(run.blueprint, trained.device, options.seed), trained.tokenizers, trained.device)
    source = open_source({"use": "scenes", "split": "unseen", "count": PICTURES})
    before = _skill(fresh, source, lambda task, done: tick(f"before training: {task}", done))
    after = _skill(trained, source, lambda task, done: tick(f"after training: {task}", done))
    page = run.folder.reports / "demo.html"
    seconds = time.monotonic() - began
    write_atomic(page, _page(run, before, after, source, watched, seconds))
    return Demo(run, before, after, page, seconds)


def _skill(asker: Asker, source: Source, tick: Callable[[str, int], None]) -> Skill:
    retrieval = evaluate_retrieval(asker, source, PICTURES, tick=lambda done: tick("retrieval", done))
    captions = evaluate_captioning(asker, source, CAPTIONS, tick=lambda done: tick("captions", done))
    pairs = zip(captions.rows, captions.captions, strict=True)
    named = sum(named_objects(caption, source.record(row)["scene"]) for row, caption in pairs) / len(captions.rows)
    return Skill(retrieval.recall, captions, named)


def _page(run: Run, before: Skill, after: Skill, source: Source, watched: Curves, seconds: float) -> str:
    charts = [curves([Series(name, points)], label=name) for name, points in watched.losses.items()]
    sections = [
        Section("What it learnt", tiles(_tiles(before, after)), f"On {PICTURES:,} pictures that it never saw."),
        Section("Captions", gallery(_examples(before, after, source)), "Below each: before training, and the truth."),
        Section("Losses", join(charts)),
    ]
    facts = {
        "blueprint": BLUEPRINT,
        "weights": f"{sum(p.numel() for p in run.asker.model.parameters()):,}",
        "took": duration(seconds),
        "run": str(run.folder.path),
    }
    return results_page("A small CoCa", "learnt drawn pictures and their captions from nothing", sections, facts)


def _tiles(before: Skill, after: Skill) -> list[Tile]:
    chance = f"chance {percent(after.recall.chance)}"
    pairs: tuple[tuple[str, Callable[[Skill], float], str], ...] = (
        ("picture to text, recall@1", lambda s: s.recall.image_to_text[1], chance),
        ("text to picture, recall@1", lambda s: s.recall.text_to_image[1], chance),
        ("objects named rightly", lambda s: s.named, "with colour and shape"),
        ("different captions", lambda s: s.captions.scores.distinct, f"of {CAPTIONS}"),
    )
    return [Tile(name, percent(read(after)), before=percent(read(before)), note=note) for name, read, note in pairs]


def _examples(before: Skill, after: Skill, source: Source) -> list[Example]:
    examples = []
    for place, row in enumerate(after.captions.rows[:SHOWN]):
        record = source.record(row)
        caption = after.captions.captions[place]
        examples.append(
            Example(
                picture=Image.fromarray(record["image"]()).resize((192, 192), Image.Resampling.NEAREST),
                said=caption,
                expected=record["caption"],
                before=before.captions.captions[place],
                right=named_objects(caption, record["scene"]) == 1,
            )
        )
    return examples
