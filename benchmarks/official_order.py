"""Whole optimiser steps of a compiled blueprint beside the authors' order of calls, written over the same components.

What a paper's benchmark has in common: the two candidates, what they are given, how they are compared and timed. A
third candidate tells the compiler's part from the optimiser's.

    ours        the compiled blueprint, fused AdamW, the teacher in one sweep
    official    the authors' order of calls, written by hand, torch's default AdamW, the teacher weight after weight
    official+   the same order of calls with our AdamW and our teacher

All have the same weights, pictures, captions, masked words and negatives, and no dropout, so that they can be
compared: times are printed only where losses and gradients agree. Captions are padded to the longest of their batch, as
ALBEF's code does it too; BLIP's pads to the frame.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.source import Program
from compose_vlp.compiler.teachers import Teacher
from compose_vlp.values import Image, Index, Labels, Text

ADAMW: dict[str, Any] = {"lr": 1e-5, "weight_decay": 0.02}
ALPHA = 0.4
BATCHES = 3
MASKED = 0.15
WORDS = (8, 20)
"""Tokens of a caption: those of COCO have 10 words and a half on average, those of CC12M 20."""
LOSSES, GRADIENTS = 1e-5, 1e-4
"""Relative distances that are rounding in float32."""


@dataclass(frozen=True)
class Paper:
    """What is measured: a blueprint, a small sibling to try the benchmark on, and the authors' order of calls."""

    base: str
    tiny: str
    official: Program
    quiet: tuple[str, ...]  # overrides that leave dropout out
    to_frame: bool = False  # the authors pad every caption to the frame


@dataclass(frozen=True)
class Data:
    """A batch, and what is drawn of it."""

    batch: Mapping[str, Any]
    choices: Mapping[str, Any]

    def to_frame(self) -> Data:
        """The same with captions padded to their frame."""
        caption: Text = self.batch["caption"]
        ids = nn.functional.pad(caption.ids, (0, caption.frame - caption.ids.shape[1]))
        return replace(self, batch={**self.batch, "caption": Text(ids, caption.lengths, caption.frame)})


class Candidate:
    """A model of its own, with a program and a way to do the rest of a step."""

    def __init__(self, model: Model, program: Program, *, plain: bool, to_frame: bool = False) -> None:
        self.model, self.program, self.plain, self.to_frame = model, program, plain, to_frame
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, **ADAMW, **({} if plain else {"fused": True}))

    def losses(self, data: Data) -> dict[str, Tensor]:
        data = data.to_frame() if self.to_frame else data
        results = self.model(self.program, data.batch, Step({"alpha": ALPHA}, choices=data.choices))
        return {name: loss.value for name, loss in results.items()}

    def step(self, data: Data) -> None:
        self._follow()
        torch.stack([*self.losses(data).values()]).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.model.commit()

    def _follow(self) -> None:
        if not self.plain:
            self.model.update_teachers("before")
            return
        students = dict(self.model.components.named_children())
        for teacher in self.model.teachers.children():
            assert isinstance(teacher, Teacher)
            assert teacher.decay is not None
            for name, module in teacher.named_children():
                for average, student in zip(module.parameters(), students[name].parameters(), strict=True):
                    average.data = average.data * teacher.decay + student.data * (1.0 - teacher.decay)

    def gradients(self, data: Data) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Losses, and the gradients of their sum."""
        losses = self.losses(data)
        torch.stack([*losses.values()]).sum().backward()
        gradients = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}
        self.optimizer.zero_grad()
        return {name: float(loss.detach()) for name, loss in losses.items()}, gradients


class Bench:
    """The candidates of a paper."""

    def __init__(self, paper: Paper, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        loaded = Blueprint.load(getattr(paper, arguments.size), overrides=list(paper.quiet))
        checked = loaded.check()
        torch.manual_seed(0)
        self.first = build(checked, seed=0).train()
        self.first.tokenizers = {"bert": Ids()}
        self.first.start_teachers(list(self.first.worlds))
        self.data = list(_data(checked, arguments))
        compiled = loaded.compile("pretrain", without=arguments.without)["pretrain"].run
        self.makers: dict[str, Callable[[Model], Candidate]] = {
            "ours": lambda model: Candidate(model, compiled, plain=False),
            "official": lambda model: Candidate(model, paper.official, plain=True, to_frame=paper.to_frame),
            "official+": lambda model: Candidate(model, paper.official, plain=False, to_frame=paper.to_frame),
        }

    def make(self, name: str) -> Candidate:
        """A candidate with weights of its own."""
        model = copy.deepcopy(self.first)
        model.student = model.components.by_name()
        model.worlds = {n: t.by_name() for n, t in model.teachers.named_children() if isinstance(t, Teacher)}
        model.losses_by_name = model.losses.by_name()
        return self.makers[name](model)


class Ids:
    """Stands for the tokenizer: its special tokens are ids here."""

    mask_id = 103
    special: Mapping[str, int] = {"[CLS]": 101}

    def id_of(self, token: str) -> int:
        """Any two ids will do."""
        return 104 if token == "[DEC]" else 105


def run(paper: Paper) -> int:
    """Compare, time, print; 1 where the numbers differ."""
    arguments = _arguments()
    bench = Bench(paper, arguments)
    if arguments.alone:
        candidate = bench.make(arguments.alone)
        del bench.first
        for data in bench.data[:2]:
            candidate.step(data)
        print(_most_memory())
        return 0
    names = ("ours", "official", "official+") if arguments.all else ("ours", "official")
    candidates = {name: bench.make(name) for name in names}
    if not _agree(candidates, bench.data[0]):
        return 1
    flops = {name: _flops(candidate, bench.data[0]) for name, candidate in candidates.items()}
    times = _times(candidates, bench.data, arguments.rounds)
    del candidates, bench
    peaks = {name: _peak(name) for name in names} if arguments.peak else {}
    _print(times, flops, peaks, arguments)
    return 0


def _times(candidates: Mapping[str, Candidate], data: list[Data], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step; candidates take turns, and the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, candidate in candidates.items():
            began = time.perf_counter()
            candidate.step(data[number % len(data)])
            if number:
                times[name].append(time.perf_counter() - began)
    return times


def _agree(candidates: Mapping[str, Candidate], data: Data) -> bool:
    """Do all give the losses and gradients of the first one?"""
    ours, *others = candidates
    losses, gradients = candidates[ours].gradients(data)
    fine = True
    for name in others:
        their_losses, their_gradients = candidates[name].gradients(data)
        largest = max(float(g.norm()) for g in their_gradients.values())
        apart = max(abs(losses[n] - loss) / abs(loss) for n, loss in their_losses.items())
        steep = max(
            float((gradients[n] - g).norm()) / (float(g.norm()) + 1e-2 * largest) for n, g in their_gradients.items()
        )
        print(f"{ours} and {name}: losses differ by {apart:.1e}, gradients by {steep:.1e}")
        fine &= gradients.keys() == their_gradients.keys() and apart <= LOSSES and steep <= GRADIENTS
    if not fine:
        print("the numbers differ, so there is nothing to time")
    return fine


def _flops(candidate: Candidate, data: Data) -> int:
    """Matrix products of a step as torch counts them (those inside its fused attention on a CPU are not among them)."""
    with FlopCounterMode(display=False) as counter:
        torch.stack([*candidate.losses(data).values()]).sum().backward()
    candidate.optimizer.zero_grad()
    return int(counter.get_total_flops())


def _peak(name: str) -> float:
    """The most memory that a process of its own held in two steps, in GB."""
    kept = [argument for argument in sys.argv[1:] if argument not in ("--peak", "--all")]
    module = f"benchmarks.{Path(sys.argv[0]).stem}"
    done = subprocess.run(
        [sys.executable, "-m", module, *kept, "--alone", name], check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1]) / 1024**2


def _most_memory() -> int:
    """The most kB that this process held. (Linux lets `ru_maxrss` begin with what the parent held when it forked.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def _data(checked: Any, arguments: argparse.Namespace) -> Iterator[Data]:
    """Random pictures, captions, masked words, and wrong partners of each row."""
    batch = arguments.batch
    size, frame = checked.inputs["image"].size, checked.inputs["caption"].max_length
    words = checked.components["bert"].config.vocab_size
    for _ in range(BATCHES):
        lengths = torch.randint(arguments.words[0], min(arguments.words[1], frame) + 1, (batch,))
        longest = int(lengths.max())
        inside = torch.arange(longest) < lengths[:, None]
        ids = torch.randint(110, words, (batch, longest)) * inside
        hidden = (torch.rand(batch, longest) < MASKED) & inside
        hidden[:, 1] = True
        labels = torch.where(hidden, ids, -100)
        masked = Text(ids.masked_fill(hidden, Ids.mask_id), lengths, frame)
        turns = torch.randint(1, batch, (2, batch))
        wrong = [Index((torch.arange(batch) + turn) % batch) for turn in turns]
        choices = {
            "neg": SimpleNamespace(image=wrong[0], text=wrong[1]),
            "masked": SimpleNamespace(text=masked, labels=Labels(labels)),
        }
        yield Data({"image": Image(torch.randn(batch, 3, size, size)), "caption": Text(ids, lengths, frame)}, choices)


def _print(
    times: Mapping[str, list[float]], flops: Mapping[str, int], peaks: Mapping[str, float], arguments: Any
) -> None:
    low, high = arguments.words
    print(f"{arguments.size}, batch {arguments.batch}, captions of {low} to {high} tokens, float32, median of "
          f"{arguments.rounds} steps; {torch.get_num_threads()} threads, torch {torch.__version__}")  # fmt: skip
    for name, seconds in times.items():
        peak = f"   {peaks[name]:5.1f} GB at most" if name in peaks else ""
        print(f"{name:10} {statistics.median(seconds):7.3f} s   {flops[name] / 1e9:7.0f} GFLOP{peak}")
    for name in [candidate for candidate in times if candidate != "ours"]:
        pairs = [
            seconds_there / seconds_here for seconds_there, seconds_here in zip(times[name], times["ours"], strict=True)
        ]
        print(f"{name} / ours: {statistics.median(pairs):.2f} (pair by pair {min(pairs):.2f} to {max(pairs):.2f}); "
              f"FLOPs {flops[name] / flops['ours']:.2f}")  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="base", choices=("base", "tiny"), help="tiny: to try the benchmark itself")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--words", type=int, nargs=2, default=WORDS, help="bounds of a caption's length, in tokens")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--without", action="append", default=[], help="a pass of the compiler to leave out of ours")
    parser.add_argument("--all", action="store_true", help="the official order with our optimiser, too")
    parser.add_argument("--peak", action="store_true", help="peak memory, each candidate in a process of its own")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser.parse_args()


def together(*values: Any) -> Any:
    """Rows under each other, as the official code puts wrong pairs in one batch."""
    first = values[0]
    features = torch.cat([value.features for value in values])
    return (
        first.with_features(features)
        if first.valid is None
        else type(first)(features, first.parts, torch.cat([value.valid for value in values]))
    )


def modules(root: nn.Module) -> tuple[Any, Any, Any]:
    """The student's components, the teacher's, and the losses."""
    model: Any = root
    return model.student, model.worlds["momentum"], model.losses_by_name
