"""Throw values at the boundary around a record: `python -m tests.fuzz.records --count 25000`.

Each value is taken, or breaks its record with a reason in words. Anything else is a fault, which is printed with the
number that draws it again (`--seed N --count 1`): an exception of another kind, a reason that cannot be printed, a
result that no model could take, a program that is started, more than `SECONDS` or `MEMORY`.
"""

from __future__ import annotations

import argparse
import faulthandler
import math
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, Final

import torch

from compose_vlp.blueprint.inputs import Input, parse_input
from compose_vlp.components.tokenizers.bpe import BytePairs
from compose_vlp.components.tokenizers.tokenizer import Tokenizer
from compose_vlp.components.tokenizers.wordpiece import WordPiece
from compose_vlp.data import BadRecord
from compose_vlp.data.collate import Collator
from compose_vlp.data.survey import survey
from compose_vlp.values import Image, Number, Text
from tests.data.support import ProgramStarts
from tests.fuzz.values import TEXTS, files, fitting, value
from tests.records import Given

SECONDS: Final = 5.0
"""Processor time that one value may take; a tenth of it is more than any should."""
MEMORY: Final = 1_500_000_000
"""Bytes by which the process may grow over all."""

AUGMENT: Final = {"crop": (0.2, 1), "flip": 0.5, "randaugment": {"count": 2, "level": 5}}
INPUTS: Final[Sequence[Mapping[str, Any]]] = (
    {"type": "image", "size": 16},
    {"type": "image", "size": 16, "resize": "crop", "augment": AUGMENT},
    {"type": "image", "size": 16, "resize": "pad", "augment": {"flip": 0.5}},
    {"type": "text", "tokenizer": "words", "max_length": 8},
    {"type": "text", "tokenizer": "bytes", "max_length": 8, "clean": "blip_caption", "words": 3},
    {"type": "text", "tokenizer": "bytes", "max_length": 8, "clean": "albef_question", "end": False},
    {"type": "text", "tokenizer": "words", "max_length": 8, "many": True},
    {"type": "id"},
    {"type": "label"},
    {"type": "label", "classes": ("no", "yes")},
    {"type": "number"},
)


@dataclass
class Outcome:
    """What became of the values so far; `faults` are to be mended."""

    taken: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    """Types of the exceptions that libraries raised on broken values."""
    slowest: tuple[float, int] = (0.0, 0)
    """Seconds, and the number that draws the value."""
    faults: list[str] = field(default_factory=list)


@cache
def tokenizers() -> Mapping[str, Tokenizer]:
    made: dict[str, Tokenizer] = {
        "words": WordPiece(WordPiece.Config(vocab_size=200)),
        "bytes": BytePairs(BytePairs.Config(vocab_size=300)),
    }
    for tokenizer in made.values():
        tokenizer.train([text for text in TEXTS if text.isascii()] * 3)
    return made


def ready() -> None:
    """Load what libraries load once, which is not to be counted as the time of any value."""
    for data in files().values():
        survey(Given([{"field": data}]), range(1))
    for settings in INPUTS:
        for given in ("a cat", next(iter(files().values())), 1):
            with suppress(BadRecord):
                Collator({"field": parse_input(dict(settings))}, tokenizers(), train=True).read({"field": given})


def throw(seeds: Sequence[int], outcome: Outcome | None = None) -> Outcome:
    """Draw a value and an input for each number, and see what becomes of them."""
    outcome = outcome or Outcome()
    with warnings.catch_warnings(), ProgramStarts() as starts:
        warnings.simplefilter("ignore")  # Pillow warns of much that it then reads
        for seed in seeds:
            began = time.process_time()
            _one(seed, outcome)
            took = time.process_time() - began
            outcome.slowest = max(outcome.slowest, (took, seed))
            if took > SECONDS:
                outcome.faults.append(f"{seed}: took {took:.1f} s")
            if starts.programs:
                outcome.faults.append(f"{seed}: started {starts.programs}")
                starts.programs.clear()
    return outcome


def _one(seed: int, outcome: Outcome) -> None:
    random = Random(seed)
    settings = parse_input(dict(random.choice(INPUTS)))
    given = fitting(random, settings.type) if random.random() < 0.6 else value(random)
    try:
        fault = _judged(settings, given, train=random.random() < 0.5)
        outcome.taken[settings.type] += 1
    except BadRecord as error:
        outcome.broken[settings.type] += 1
        outcome.causes[type(error.__cause__).__name__] += error.__cause__ is not None
        reason = str(error)
        fault = None if reason.strip() and reason.isprintable() and len(reason) < 5000 else f"the reason {reason!r}"
    except Exception:  # noqa: BLE001 - what is looked for
        fault = traceback.format_exc()
    if fault is None:
        fault = _surveyed(given)
    if fault is not None:
        outcome.faults.append(f"{seed}: {type(given).__name__} for {settings.type}: {fault}")


def _judged(settings: Input, given: Any, *, train: bool) -> str | None:
    """What is wrong with the tensors that a value became."""
    collator = Collator({"field": settings}, tokenizers(), train=train)
    stacked = collator.stack([collator.read({"field": given}, 1, 2)])["field"]
    if isinstance(stacked, Image):
        good = stacked.pixels.shape == (1, 3, 16, 16) and bool(stacked.pixels.isfinite().all())
    elif isinstance(stacked, Text):
        top = max(tokenizer.vocab_size for tokenizer in tokenizers().values())
        good = stacked.ids.shape[1] <= 8 and bool((stacked.ids < top).all()) and bool((stacked.lengths > 0).all())
    else:
        assert isinstance(stacked, Number)
        good = stacked.values.shape == (1,) and math.isfinite(float(stacked.values))
    return None if good else f"became {stacked}"


def _surveyed(given: Any) -> str | None:
    """What is wrong with how a survey takes the value: it reads records of which no blueprint says what they are."""
    try:
        survey(Given([{"field": given}]), range(1)).as_json()
    except Exception:  # noqa: BLE001 - what is looked for
        return traceback.format_exc()
    return None


def report(outcome: Outcome, grown: int) -> str:
    """What became of the values, in lines."""
    kinds = sorted(outcome.taken | outcome.broken)
    raised = {name: count for name, count in outcome.causes.most_common() if count}
    lines = [
        *(f"{name:8} {outcome.taken[name]:7,} taken {outcome.broken[name]:7,} broken" for name in kinds),
        f"raised by libraries, {len(raised)} types: {raised}",
        f"slowest {outcome.slowest[0]:.2f} s (--seed {outcome.slowest[1]}), grew by {grown / 1e6:,.0f} MB",
        *(f"FAULT {fault}" for fault in outcome.faults),
    ]
    return "".join(f"{line}\n" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=25_000, help="values to draw")
    parser.add_argument("--seed", type=int, default=0, help="number of the first value")
    arguments = parser.parse_args()
    faulthandler.enable()  # a decoder that ends the process says where
    torch.set_num_threads(1)
    outcome, last = Outcome(), arguments.seed + arguments.count
    ready()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for start in range(arguments.seed, last, 1000):
        throw(range(start, min(start + 1000, last)), outcome)
        sys.stderr.write(f"up to {min(start + 1000, last)}: {len(outcome.faults)} faults\n")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024
    if grown > MEMORY:
        outcome.faults.append(f"the process grew by {grown / 1e6:,.0f} MB")
    sys.stdout.write(report(outcome, grown))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
