"""Spoil blueprints and overrides: `python -m tests.fuzz.blueprints --count 20000`.

Whatever stands in a blueprint, in an override or in a mixture of tasks and papers, it is refused in words, or it means
something: then a share of it is built on the meta device, and a smaller one trained for two steps. Anything else is a
fault, printed with the number that draws it again (`--seed N --count 1`): an exception of another kind, a message that
nobody can read, more than `SECONDS`.
"""

from __future__ import annotations

import argparse
import dataclasses
import faulthandler
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.nodes import Entry, Mapping, Scalar
from compose_vlp.blueprint.render import render
from compose_vlp.blueprint.show import as_data
from compose_vlp.blueprint.trees import Path as Keys
from compose_vlp.blueprint.trees import find, put
from compose_vlp.blueprint.write import write
from compose_vlp.errors import BlueprintError, UserError
from tests.fuzz.spoiling import FILE, Spoilt, draw

SECONDS: Final = 10.0
"""Processor time that one check may take; most take a tenth of a second."""
LARGEST: Final = 3_000_000
"""Weights of a model that is trained, and not only built."""


@dataclass
class Outcome:
    """What became of the blueprints so far; `faults` are to be mended."""

    refused: int = 0
    accepted: int = 0
    built: int = 0
    trained: int = 0
    slowest: tuple[float, int] = (0.0, 0)
    """Seconds, and the number that draws the blueprint."""
    faults: list[str] = field(default_factory=list)


def throw(seeds: Sequence[int], outcome: Outcome | None = None, *, build: float = 0, train: float = 0) -> Outcome:
    """Spoil a blueprint for each number; `build` and `train` are shares of what `check` accepts."""
    outcome = outcome or Outcome()
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder, chdir(folder):
        warnings.simplefilter("ignore")
        for seed in seeds:
            random = Random(seed)
            spoilt = draw(random)
            fault = _judged(spoilt, seed, outcome, build=random.random() < build, train=random.random() < train)
            if fault is not None:
                asked = [*spoilt.names, *(override[:80] for override in spoilt.overrides)]
                outcome.faults.append(f"{seed}: {asked}: {fault[-2000:]}")
    return outcome


def _judged(spoilt: Spoilt, seed: int, outcome: Outcome, *, build: bool, train: bool) -> str | None:
    """What is wrong with how a spoilt blueprint is taken."""
    if spoilt.file is not None:
        Path(FILE).write_bytes(spoilt.file)
    began = time.process_time()
    blueprint, fault = None, None
    try:
        blueprint = _checked(spoilt)
        outcome.accepted += 1
    except UserError as error:
        outcome.refused += 1
        fault = _unclear(error)
    except Exception:  # noqa: BLE001 - what is looked for
        fault = traceback.format_exc(limit=-6)
    took = time.process_time() - began
    outcome.slowest = max(outcome.slowest, (took, seed))
    if took > SECONDS:
        return f"took {took:.1f} s"
    return _built(blueprint, outcome, train=train) if blueprint is not None and (build or train) else fault


def _checked(spoilt: Spoilt) -> Blueprint:
    blueprint = Blueprint.load(*spoilt.names, overrides=spoilt.overrides)
    as_data(blueprint.document)
    write(blueprint.document)
    blueprint.check()
    return blueprint


def _unclear(error: UserError) -> str | None:
    """What is wrong with how mistakes are told."""
    text = render(error.problems, error.excerpts if isinstance(error, BlueprintError) else {})
    messages = [problem.message for problem in error.problems]
    if not all(message.strip() and len(message) < 2000 for message in messages):
        return f"a message that nobody reads: {[message[:100] for message in messages]}"
    try:
        text.encode()
    except UnicodeEncodeError as wrong:
        return f"a message that cannot be printed: {wrong}"
    return None


def _built(blueprint: Blueprint, outcome: Outcome, *, train: bool) -> str | None:
    """What is wrong with what `check` accepts: built on the meta device, and trained where it is small."""
    from compose_vlp.runtime.training.trainer import TrainOptions

    try:
        with tempfile.TemporaryDirectory() as folder:
            made = blueprint.build(out=Path(folder) / "build", track=False, batch=4)
            outcome.built += 1
            if train and made.report.parameters["total"] <= LARGEST and blueprint.check().stages:
                options = TrainOptions(workers=0, device="cpu")
                shortened(blueprint).train(out=Path(folder) / "run", options=options, track=False)
                outcome.trained += 1
    except UserError as error:
        return _unclear(error)
    except Exception:  # noqa: BLE001 - what is looked for
        return traceback.format_exc(limit=-6)
    return None


def shortened(blueprint: Blueprint) -> Blueprint:
    """The same blueprint on a few scenes, for two steps of four records in each stage."""
    root = blueprint.document.root

    def laid(root: Mapping, path: Keys, text: str) -> Mapping:
        there = find(root, path[:2])
        assert there is not None
        return put(root, path, Entry(Scalar(path[-1], there.key.span), Scalar(text, there.key.span)))

    for stage in blueprint.document.stages.names:
        root = laid(laid(root, ("stages", stage, "length"), "2 steps"), ("stages", stage, "batch"), "4")
    for source in blueprint.document.data:
        use = source.value.get("use") if isinstance(source.value, Mapping) else None
        if isinstance(use, Scalar) and use.text == "scenes":
            root = laid(root, ("data", source.name, "count"), "24")
    return Blueprint(dataclasses.replace(blueprint.document, root=root))


def report(outcome: Outcome) -> str:
    """What became of the blueprints, in lines."""
    counts = {name: getattr(outcome, name) for name in ("refused", "accepted", "built", "trained")}
    lines = [
        ", ".join(f"{count:,} {name}" for name, count in counts.items()),
        f"slowest check {outcome.slowest[0]:.2f} s (--seed {outcome.slowest[1]})",
        f"{len(outcome.faults)} faults",
    ]
    return "".join(f"{line}\n" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=20_000, help="blueprints to spoil")
    parser.add_argument("--seed", type=int, default=0, help="number of the first")
    parser.add_argument("--build", type=float, default=0.2, help="share of what is accepted that is built")
    parser.add_argument("--train", type=float, default=0.02, help="share of what is accepted that is trained")
    arguments = parser.parse_args()
    faulthandler.enable()
    outcome, last = Outcome(), arguments.seed + arguments.count
    for start in range(arguments.seed, last, 250):
        end, before = min(start + 250, last), len(outcome.faults)
        throw(range(start, end), outcome, build=arguments.build, train=arguments.train)
        sys.stderr.write("".join(f"FAULT {fault}\n" for fault in outcome.faults[before:]))
        sys.stderr.write(f"up to {end}: {len(outcome.faults)} faults\n")
    sys.stdout.write(report(outcome))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
