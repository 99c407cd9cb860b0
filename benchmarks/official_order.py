"""Whole optimiser steps of a compiled blueprint beside the authors' order of calls, written over the same components.

What a paper's benchmark has in common: the two candidates, what they are given, how they are compared and timed. A
third candidate tells the compiler's part from the optimiser's.

    ours        the compiled blueprint, fused AdamW, the teacher in one sweep
    official    the authors' order of calls, written by hand, with their attention (scores, softmax and products apart),
                torch's default AdamW, the teacher weight after weight
    official+   the same order of calls with our attention, our AdamW and our teacher

All have the same weights, pictures, captions, masked words and negatives, and no dropout, so that they can be
compared: times are printed only where losses and gradients agree. Captions are padded to the longest of their batch, as
ALBEF's code does it too; BLIP's pads to the frame.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.racing import ADAMW, Raced, add_arguments, in_float64, race
from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.source import Program
from compose_vlp.compiler.teachers import Teacher
from compose_vlp.components.attention.attend import BACKENDS, use_backend
from compose_vlp.components.attention.masks import may_see
from compose_vlp.values import Image, Index, Labels, Text

ALPHA = 0.4
THEIRS = "authors"
"""The attention that the authors' order of calls is timed with."""
LIBRARY = "transformers"
BATCHES = 3
MASKED = 0.15
WORDS = (8, 20)
"""Tokens of a caption: those of COCO have 10 words and a half on average, those of CC12M 20."""


@dataclass(frozen=True)
class Paper:
    """What is measured: a blueprint, a small sibling to try the benchmark on, and the authors' order of calls."""

    base: str
    tiny: str
    official: Program
    quiet: tuple[str, ...]  # overrides that leave noise out
    to_frame: bool = False  # the authors pad every caption to the frame
    stage: str = "pretrain"
    small: tuple[str, ...] = ()  # overrides that make the sibling small
    towers: tuple[tuple[str, int], ...] = ()  # components with layers; `--depth`, by this, is the number of each
    library: Callable[..., Candidate] | None = None  # the same with the towers of another library, as `Candidate`

    def layers(self, depth: int | None) -> list[str]:
        """Overrides that give each tower its share of so many layers; none without a number."""
        return [f"components.{name}.depth={max(depth // by, 1)}" for name, by in self.towers] if depth else []


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

    def in_float64(self) -> Data:
        """The same with pictures in float64."""
        return replace(self, batch=in_float64(self.batch))

    def to(self, device: torch.device) -> Data:
        """The same on a device."""
        choices = {
            call: SimpleNamespace(**{name: value.to(device) for name, value in vars(chosen).items()})
            for call, chosen in self.choices.items()
        }
        return Data({name: value.to(device) for name, value in self.batch.items()}, choices)


class Candidate(Raced):
    """A model of its own, with a program and a way to do the rest of a step."""

    model: Model

    def __init__(self, model: Model, program: Program, *, plain: bool, to_frame: bool = False) -> None:
        self.model, self.program, self.plain, self.to_frame = model, program, plain, to_frame
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, **ADAMW, **({} if plain else {"fused": True}))

    def losses(self, data: Data) -> dict[str, Tensor]:
        with use_backend(THEIRS) if self.plain else nullcontext():
            return self._losses(data)

    def _losses(self, data: Data) -> dict[str, Tensor]:
        data = data.to_frame() if self.to_frame else data
        params = {"alpha": ALPHA} if self.model.worlds else {}
        results = self.model(self.program, data.batch, Step(params, choices=data.choices))
        return {name: loss.value for name, loss in results.items()}

    def step(self, data: Data) -> None:
        self._follow()
        super().step(data)
        self.model.commit()

    def _follow(self) -> None:
        if not self.plain:
            self.model.update_teachers("before")
            return
        students, done = dict(self.model.components.named_children()), set[int]()
        for teacher in self.model.teachers.children():
            assert isinstance(teacher, Teacher)
            assert teacher.decay is not None
            for name, module in teacher.named_children():
                for average, student in zip(module.parameters(), students[name].parameters(), strict=True):
                    if id(average) in done:
                        continue  # one table of words, in the encoder and in the head
                    done.add(id(average))
                    average.data = average.data * teacher.decay + student.data * (1.0 - teacher.decay)


def authors_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    valid: Tensor | None,
    causal: bool,
    bias: Tensor | None,
    dropout: float,
) -> Tensor:
    """Attend as the code of ALBEF, BLIP and VLMo does: scores, what is added to them, softmax, dropout, values."""
    q, k, v = (x.transpose(1, 2) for x in (queries, keys, values))
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None and bias.dtype != torch.bool:
        scores, bias = scores + bias, None
    seen = may_see(queries.shape[1], keys.shape[1], valid, causal, bias, queries.device)
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    weights = nn.functional.dropout(scores.softmax(-1), dropout)
    return (weights @ v).transpose(1, 2)


BACKENDS[THEIRS] = authors_attention


class Bench:
    """The candidates of a paper."""

    def __init__(self, paper: Paper, arguments: argparse.Namespace) -> None:
        self.paper = paper
        small = paper.small if arguments.size == "tiny" else ()
        layers = paper.layers(getattr(arguments, "depth", None))
        loaded = Blueprint.load(getattr(paper, arguments.size), overrides=[*paper.quiet, *small, *layers])
        checked = loaded.check()
        torch.manual_seed(0)
        self.first = build(checked, seed=0).train()
        self.first.tokenizers = {"bert": Ids()}
        self.first.start_teachers(list(self.first.worlds))
        self.data = list(_data(checked, arguments))
        self.compiled = loaded.compile(paper.stage, without=arguments.without)[paper.stage].run

    def make(self, name: str) -> Candidate:
        """A candidate with weights of its own."""
        model = copy.deepcopy(self.first)
        link(model)
        if name == "ours":
            return Candidate(model, self.compiled, plain=False)
        plain, to_frame = not name.endswith("+"), self.paper.to_frame
        if not name.startswith(LIBRARY):
            return Candidate(model, self.paper.official, plain=plain, to_frame=to_frame)
        assert self.paper.library is not None
        return self.paper.library(model, self.paper.official, plain=plain, to_frame=to_frame and plain)


def link(model: Model) -> None:
    """Let programs find the components that a copied, or changed, model has."""
    model.student = model.components.by_name()
    model.worlds = {n: t.by_name() for n, t in model.teachers.named_children() if isinstance(t, Teacher)}
    model.losses_by_name = model.losses.by_name()


class Ids:
    """Stands for the tokenizer: its special tokens are ids here."""

    mask_id = 103
    special: Mapping[str, int] = {"[CLS]": 101}

    def id_of(self, token: str) -> int:
        """Any two ids will do."""
        return 104 if token == "[DEC]" else 105


def run(paper: Paper, words: Sequence[str] | None = None) -> int:
    """Compare, time, print; 1 where the numbers differ. `words` are those of the command line if left out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true", help="the official order with our optimiser, too")
    if paper.library is not None:
        parser.add_argument("--library", action="store_true", help="beside the towers of transformers instead")
    if paper.towers:
        shares = ", ".join(f"{name}: {'all' if by == 1 else f'one of {by}'}" for name, by in paper.towers)
        parser.add_argument("--depth", type=int, help=f"layers, of which each tower has its share ({shares})")
    arguments = add_arguments(parser, WORDS).parse_args(words)
    bench = Bench(paper, arguments)
    opponent = LIBRARY if getattr(arguments, "library", False) else "official"
    names = ["ours", opponent, *([f"{opponent}+"] if arguments.all or arguments.alone else [])]
    return race(paper.base, {name: partial(bench.make, name) for name in names}, bench.data, arguments)


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
