"""Candidates that make the same optimiser step: what all benchmarks of a step have in common.

The first candidate is ours. Times are printed only where losses and gradients agree, and, with `--weights`, the weights
after five steps in float64: in float32 AdamW makes steps of full size out of the rounding of every element whose
gradient is near its epsilon, so that weights tell nothing there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.turns import OURS, Times, add_turns, pairs_of_times, take_turns

ADAMW: dict[str, Any] = {"lr": 1e-5, "weight_decay": 0.02}
LOSSES, GRADIENTS = 1e-5, 1e-4
"""Relative distances that are rounding in float32."""
EXACT, WEIGHTS, STEPS = 1e-6, 1e-3, 5
"""In float64: distances of losses and gradients, and of the weights after so many steps, relative to a tensor's largest
change (some libraries compute scores in float32 all the same)."""
FAINT = 1e-3
"""Of a tensor's largest gradient: elements below it are not compared after steps (biases of keys have but rounding,
of which AdamW makes steps of full size)."""


class Raced:
    """A candidate: a model with its optimizer."""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def losses(self, data: Any) -> dict[str, Tensor]:
        """Losses of a batch by name, which count alike."""
        raise NotImplementedError

    def named(self, read: Callable[[nn.Parameter], Tensor | None]) -> dict[str, Tensor]:
        """Give what is read of each parameter, under the names that all candidates have; None is left out."""
        tensors = {name: read(parameter) for name, parameter in self.model.named_parameters()}
        return {name: tensor.clone() for name, tensor in tensors.items() if tensor is not None}

    def step(self, data: Any) -> None:
        """A whole step."""
        torch.stack([*self.losses(data).values()]).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def gradients(self, data: Any) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Losses, and the gradients of their sum."""
        losses = self.losses(data)
        torch.stack([*losses.values()]).sum().backward()
        gradients = self.named(lambda parameter: parameter.grad)
        self.optimizer.zero_grad()
        return {name: float(loss.detach()) for name, loss in losses.items()}, gradients


Makers = Mapping[str, Callable[[], Raced]]


def race(title: str, makers: Makers, data: Sequence[Any], arguments: argparse.Namespace) -> int:
    """Compare, time, print; 1 where the numbers differ."""
    if arguments.turns:
        take_turns(arguments.turns, lambda: _steps(makers[arguments.turns](), data))
        return 0
    if arguments.alone:
        candidate = makers[arguments.alone]()
        for batch in data[:2]:
            candidate.step(batch)
        print(_most_memory())
        return 0
    if arguments.weights and not _agree_exactly(makers, data):
        return 1
    candidates = {name: make() for name, make in makers.items()}
    if not _agree({name: candidate.gradients(data[0]) for name, candidate in candidates.items()}, LOSSES, GRADIENTS):
        return 1
    counted = {} if arguments.no_flops else candidates
    flops = {name: flops_of(partial(candidate.gradients, data[0])) for name, candidate in counted.items()}
    del candidates, counted
    times = pairs_of_times(list(makers), arguments.rounds)
    peaks = {name: _peak(name) for name in makers} if arguments.peak else {}
    _print(title, times, flops, peaks, arguments)
    if arguments.json:
        figures = {"title": title, "seconds": times, "flops": flops, "peak_gb": peaks}
        Path(arguments.json).write_text(json.dumps(figures), encoding="utf-8")
    return 0


def add_arguments(parser: argparse.ArgumentParser, words: tuple[int, int]) -> argparse.ArgumentParser:
    """Add what all races take; `words` are the bounds of a caption's length if nothing is said."""
    parser.add_argument("--size", default="base", choices=("base", "tiny"), help="tiny: to try the benchmark itself")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--words", type=int, nargs=2, default=words, help="bounds of a caption's length, in tokens")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--without", action="append", default=[], help="a pass of the compiler to leave out of ours")
    parser.add_argument("--weights", action="store_true", help=f"compare weights after {STEPS} steps, in float64")
    parser.add_argument("--peak", action="store_true", help="peak memory, each candidate in a process of its own")
    parser.add_argument("--no-flops", action="store_true", help="count none, which takes as long as a step of each")
    parser.add_argument("--json", help="also write the figures into this file")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    add_turns(parser)
    return parser


def in_float64(data: Any) -> Any:
    """The same batch with its numbers in float64."""
    if hasattr(data, "in_float64"):
        return data.in_float64()
    return torch.utils._pytree.tree_map(  # noqa: SLF001 (torch's own way through nested values)
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, data
    )


# --- the same numbers?

Gradients = tuple[dict[str, float], dict[str, Tensor]]


def _agree(numbers: Mapping[str, Gradients], losses_within: float, gradients_within: float) -> bool:
    """Do all give the losses and gradients of the first one? A weight without a gradient counts as one of 0."""
    ours, *others = numbers
    losses, gradients = numbers[ours]
    fine = True
    for name in others:
        other_losses, other_gradients = numbers[name]
        largest = max(float(g.norm()) for g in other_gradients.values())
        apart = max(abs(losses[n] - loss) / abs(loss) for n, loss in other_losses.items())
        steep = 0.0
        for key in gradients.keys() | other_gradients.keys():
            some = gradients[key] if key in gradients else other_gradients[key]
            mine, other = (tensors.get(key, torch.zeros_like(some)) for tensors in (gradients, other_gradients))
            steep = max(steep, float((mine - other).norm()) / (float(other.norm()) + 1e-2 * largest))
        print(f"{ours} and {name}: losses differ by {apart:.1e}, gradients by {steep:.1e}")
        fine &= losses.keys() == other_losses.keys() and apart <= losses_within and steep <= gradients_within
    if not fine:
        print("the numbers differ, so there is nothing to time")
    return fine


def _agree_exactly(makers: Makers, data: Sequence[Any]) -> bool:
    """In float64, one candidate at a time: losses, gradients, and the weights after some steps."""
    first: dict[str, Gradients] = {}
    changes: dict[str, dict[str, Tensor]] = {}
    clear: dict[str, Tensor] = {}
    for name, make in makers.items():
        candidate = make()
        candidate.model.double()
        first[name] = candidate.gradients(in_float64(data[0]))
        clear = clear or {key: g.abs() > FAINT * g.abs().max() for key, g in first[name][1].items()}
        begun = candidate.named(lambda parameter: parameter.detach())
        for number in range(STEPS):
            candidate.step(in_float64(data[number % len(data)]))
        after = candidate.named(lambda parameter: parameter.detach())
        changes[name] = {key: (tensor - begun[key]) * clear.get(key, 1) for key, tensor in after.items()}
    print("in float64:")
    fine = _agree(first, EXACT, EXACT)
    ours, *others = makers
    for name in others:
        common = changes[ours].keys() & changes[name].keys()
        apart = {
            key: float((changes[ours][key] - changes[name][key]).abs().max() / changes[name][key].abs().max())
            for key in common
            if changes[name][key].any()
        }
        worst = max(apart, key=lambda key: apart[key])
        print(f"{ours} and {name}: weights after {STEPS} steps by {apart[worst]:.1e} of a tensor's largest change "
              f"({worst})")  # fmt: skip
        fine &= apart[worst] <= WEIGHTS
    return fine


# --- measuring


def _steps(candidate: Raced, data: Sequence[Any]) -> Callable[[int], None]:
    return lambda number: candidate.step(data[number % len(data)])


def flops_of(step: Callable[[], object]) -> int:
    """Matrix products of a forward and backward, attention's too (torch does not count its fused one on a CPU)."""
    aten = torch.ops.aten
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,  # noqa: SLF001
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,  # noqa: SLF001
    }
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        step()
    return int(counter.get_total_flops())


def _attention(queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(queries, keys, values))


def _attention_backward(_: Any, queries: Any, keys: Any, values: Any, *__: Any, **___: Any) -> int:
    """Two products for each of the two; making scores anew does not count."""
    return 2 * int(sdpa_flop_count(queries, keys, values))


def _peak(name: str) -> float:
    """The most memory that a process of its own held in two steps, in GB."""
    skipped = {"--peak", "--weights"}
    kept = [argument for argument in sys.argv[1:] if argument not in skipped]
    module = f"benchmarks.{Path(sys.argv[0]).stem}"
    done = subprocess.run(
        [sys.executable, "-m", module, *kept, "--alone", name], check=True, capture_output=True, text=True
    )
    return int(done.stdout.split()[-1]) / 1024**2


def _most_memory() -> int:
    """The most kB that this process held. (Linux lets `ru_maxrss` begin with what the parent held when it forked.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def _print(
    title: str,
    times: Mapping[str, Times],
    flops: Mapping[str, int],
    peaks: Mapping[str, float],
    arguments: argparse.Namespace,
) -> None:
    low, high = arguments.words
    print(f"{title}, {arguments.size}, batch {arguments.batch}, captions of {low} to {high} tokens, float32, median of "
          f"{arguments.rounds} steps; {torch.get_num_threads()} threads, torch {torch.__version__}")  # fmt: skip
    for name, peak in peaks.items():
        print(f"{name:11} {peak:5.1f} GB at most")
    print_pairs(times, flops)


def print_pairs(times: Mapping[str, Times], flops: Mapping[str, int]) -> None:
    """Print each opponent beside us: medians, work, and how many times as long its steps took."""
    for opponent, pair in times.items():
        for name, seconds in pair.items():
            done = f"   {flops[name] / 1e9:7.0f} GFLOP" if name in flops else ""
            print(f"{name:11} {statistics.median(seconds):7.3f} s{done}")
        ours, its = pair.values()
        ratios = [there / here for there, here in zip(its, ours, strict=True)]
        share = f"; FLOPs of {OURS} {flops[OURS] / flops[opponent]:.2f} of its" if opponent in flops else ""
        print(f"{opponent} / {OURS}: {statistics.median(ratios):.2f} (pair by pair {min(ratios):.2f} to "
              f"{max(ratios):.2f}){share}")  # fmt: skip
