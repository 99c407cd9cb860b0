"""Whole optimiser steps of one candidate, measured on a GPU (or, to try the benchmark, on a processor)."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from benchmarks.cards import stated_peak
from compose_vlp.api import Blueprint
from compose_vlp.bench.steps import Steps
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.flops import FlopCounter
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.components.attention.attend import use_backend
from compose_vlp.runtime.device import autocast, peak_memory
from compose_vlp.runtime.stage import choose_of_stage, plan_stage, stage_model
from compose_vlp.values import Image, Text

BATCHES = 3
WORDS = (8, 24)
"""Bounds of a caption's length in tokens: those of COCO have 10 words and a half on average, those of CC12M 20."""
FEWEST_LAYERS = 2
MOST_VARIANTS = 64
"""Of a layer's program: widths, lengths, cross-attention or none, the number of a layer with biases of its own."""


class Stepped(Protocol):
    """A candidate: whole optimiser steps on one of `BATCHES` batches."""

    pictures: int  # of one step
    losses: Mapping[str, float]  # of the first batch, where they can be compared with another candidate's

    def flops(self) -> int:
        """Count the products of a forward and backward, on average."""

    def step(self, number: int) -> float:
        """Make a step on that batch; its seconds, when all its work is done."""


def measure(candidate: Stepped, device: torch.device, warm_up: int, rounds: int) -> dict[str, Any]:
    """Seconds of each step, pictures a second, the share of the card's stated peak, and the most memory."""
    flops = candidate.flops()
    gc.collect()
    begun = time.perf_counter()
    for number in range(warm_up):
        candidate.step(number % BATCHES)
    warm_up_s = time.perf_counter() - begun
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = [candidate.step(number % BATCHES) for number in range(rounds)]
    step_s = statistics.median(seconds)
    peak = stated_peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return {
        "seconds": seconds,
        "step_s": step_s,
        "pictures_s": candidate.pictures / step_s,
        "flops": flops,
        "mfu": None if peak is None else flops / step_s / peak,
        "peak_bytes": peak_memory(device),
        "warm_up_s": warm_up_s,
        "losses": dict(candidate.losses),
    }


@dataclass(frozen=True)
class Ours:
    """What is asked of a blueprint of ours: a stage's program with passes or without, its layers compiled or not."""

    blueprint: tuple[str, ...]
    stage: str
    passes: bool = True
    compiled: bool = False
    recomputed: bool = False

    def make(self, batch: int, device: torch.device) -> Stepped:
        """Build it on a device, for batches of so many rows."""
        loaded = Blueprint.load(*self.blueprint, overrides=[f"stages.{self.stage}.precision=bf16"])
        return Program(self, loaded, batch, device)


class Program:
    """Steps of a compiled stage as training makes them, clipping and teachers included, on texts of several lengths."""

    losses: Mapping[str, float] = {}  # noise is on, as in training

    def __init__(self, asked: Ours, loaded: Blueprint, batch: int, device: torch.device) -> None:
        checked = loaded.check()
        plan, own = plan_stage(checked, asked.stage), checked.of_stage(asked.stage)
        _, is_trained = stage_model(checked, asked.stage)
        without = () if asked.passes else tuple(PASSES)
        self.program = compile_stage(checked, asked.stage, trainable=is_trained, without=without)
        self.model = build(own, device, seed=0).train()
        self.model.tokenizers = synthetic_tokenizers(own)
        self.model.start_teachers(list(self.model.worlds))
        choose_of_stage(self.model, own, asked.stage)
        self.asked, self.device = asked, device
        self.first = Step(own.constants_and_starts())
        self.autocast = autocast(device, plan.precision)
        self.batches = [
            _ragged(synthetic_batch(self.program.plan, batch, device, seed), seed) for seed in range(BATCHES)
        ]
        self.pictures = sum(len(x.pixels) for x in self.batches[0].values() if isinstance(x, Image))
        again = [name for name, _ in self.model.components.named_children()] if asked.recomputed else []
        self.steps = Steps(own, self.model, plan, batch, device, again)
        self.counted = self._count()
        if asked.compiled:
            compile_layers(self.model, "inductor" if device.type == "cuda" else "eager")

    def flops(self) -> int:
        return self.counted

    def step(self, number: int) -> float:
        return self.steps(self.program, self.batches[number])

    def _count(self) -> int:
        """By the compiler's counter, on the words that were drawn; what is computed again does not count."""
        total = 0
        for batch in self.batches:
            with FlopCounter() as counter, use_backend("sdpa"), self.autocast():
                self.model(self.program.run, batch, self.first)
            total += counter.total
        return total // BATCHES


def _ragged(batch: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The same with texts of drawn lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)

    def cut(value: Any) -> Any:
        if not isinstance(value, Text):
            return value
        low, high = (min(bound, value.frame) for bound in WORDS)
        lengths = torch.randint(low, high + 1, (len(value.ids),), generator=generator)
        longest = int(lengths.max())
        inside = (torch.arange(longest) < lengths[:, None]).to(value.ids.device)
        ids = value.ids[:, :longest].where(inside, value.pad)
        return Text(ids, lengths.to(value.ids.device), value.frame, value.pad)

    return {name: cut(value) for name, value in batch.items()}


# --- what is done to the repeated layers of a model


def repeated_layers(model: Model) -> list[nn.Module]:
    """The layers of every list of layers, teachers' too."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) >= FEWEST_LAYERS]
    return list(dict.fromkeys(layer for listed in lists for layer in listed))


def compile_layers(model: Model, backend: str) -> None:
    """`torch.compile` each repeated layer in place; equal ones share what was compiled."""
    torch._dynamo.config.recompile_limit = MOST_VARIANTS  # noqa: SLF001 (torch's own name for it)
    for layer in repeated_layers(model):
        layer.compile(backend=backend)
