"""Runs on disk as training and evaluation leave them, made without either; and a study with planted effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.write import write
from compose_vlp.report.trials import Cost, Study, Trial
from compose_vlp.runtime.state.run_folder import RunFolder
from compose_vlp.runtime.state.scores import Measurement, keep_scores
from compose_vlp.tracking.layout import TrackFolder
from compose_vlp.tracking.records import Metrics, encode


def make_run(
    folder: Path,
    *overrides: str,
    blueprint: str = "tiny/coca",
    seed: int = 0,
    scores: Mapping[str, float] | None = None,
    changes: Sequence[str] = (),
    losses: Sequence[float] = (),
) -> RunFolder:
    """A finished run of a blueprint; scores are of retrieval on `pairs`, losses one a step."""
    loaded = Blueprint.load(blueprint, overrides=overrides)
    run = RunFolder.create(loaded.name, seed, ["train", blueprint], at=folder)
    (folder / "blueprint.yaml").write_text(write(loaded.document), encoding="utf-8")
    if scores is not None:
        keep_scores(run, [Measurement("retrieval", "pairs", tuple(changes), 100, 7, scores)])
    if losses:
        TrackFolder(folder).path.mkdir()
        lines = [encode(Metrics(step, 0, {"pretrain/loss": loss})) for step, loss in enumerate(losses)]
        TrackFolder(folder).outbox.write_bytes(b"".join(lines))
    run.update(stages={"pretrain": {"steps": 7, "seconds": 60.0 + seed, "peak_memory": 2_000_000}}, parameters=1000)
    run.finish("FINISHED")
    return run


FACTORS = {"teacher": ("on", "off"), "fusion": ("six", "<gated> & $50|")}


def make_study(seeds: int = 3) -> Study:
    """Four cells; without the teacher the score is 0.2 lower, and the other factor does nothing."""
    trials = []
    for seed, (teacher, fusion) in product(range(seeds), product(*FACTORS.values())):
        wobble = 0.001 * ((7 * seed + len(teacher) + len(fusion)) % 5)
        trials.append(
            Trial(
                f"{teacher}, {fusion}",
                {"teacher": teacher, "fusion": fusion},
                seed,
                {
                    "retrieval.mean_recall": 0.7 - 0.2 * (teacher == "off") + 0.01 * seed + wobble,
                    "captioning.cider": 1.0,
                },
                Cost(1000 + 10 * len(fusion), 1e12, 30.0 + seed, 5_000_000),
                {"pretrain/loss": [(step, 3.0 / (step + 1) + 0.01 * seed) for step in range(500)]},
            )
        )
    cells = {f"{teacher}, {fusion}": f"{teacher} and {fusion}" for teacher, fusion in product(*FACTORS.values())}
    settings = {"budget": "700 steps", "seeds": str(seeds)}
    return Study("distil", "What is a <teacher> worth?", FACTORS, next(iter(cells)), cells, trials, settings=settings)
