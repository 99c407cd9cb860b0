"""One training step of our open_clip-shaped CoCa beside open_clip's own.

Same weights, same pictures and captions (8 to 24 tokens in a frame of 76), same precision; whole optimiser steps of the
candidates alternate, each in a process of its own. Times are printed only where losses and gradients agree in that
precision, and where, with `--weights`, losses, gradients and the weights after 5 steps agree in float64: in float32
AdamW makes steps of full size out of the rounding of every element whose gradient is near its epsilon, so that weights
say nothing there.

    ours        the compiled blueprint: texts trimmed to the longest plus a column of padding, logits at labelled
                positions only, fused AdamW
    open_clip   its model, loss and torch's default AdamW, texts in the full frame
    open_clip+  the same with fused AdamW, and with texts trimmed as ours are (the CLS keeps its position row)
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from benchmarks.racing import flops_of, print_pairs
from benchmarks.turns import Times, add_turns, pairs_of_times, take_turns
from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import build
from compose_vlp.interop import open_clip_coca
from compose_vlp.interop.replays.open_clip_coca import text_of
from compose_vlp.interop.weights import load_weights
from compose_vlp.values import Image

ADAMW: dict[str, Any] = {"lr": 1e-5, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.2}
STEPS = 5
WORDS = (8, 24)
TINY_WIDTH, TINY_DEPTH, TINY_IMAGE = 64, 2, 64
NOISE = (".self_attention.branch.qkv.bias", ".cross_attention.branch.kv.bias", "pool.attention.kv.bias")
"""Tensors that hold key biases, whose true gradient is 0: AdamW makes steps of full size out of their rounding."""

Data = tuple[Tensor, Tensor]
Step = Callable[[Data], tuple[float, float]]


def main(words: Sequence[str] | None = None) -> int:
    """Compare, time, print; 1 where the numbers differ. `words` are those of the command line if left out."""
    arguments = command_line().parse_args(words)
    torch.manual_seed(0)
    configs, overrides = shape(arguments)
    reference = open_clip.create_model(arguments.model, **configs).train()
    # open_clip leaves this matrix as memory was, and gradients through it are then noise that AdamW makes steps of.
    nn.init.normal_(reference.text_decoder.text_projection, std=reference.text_decoder.width**-0.5)
    makers: dict[str, Callable[[nn.Module, str], Any]] = {
        "ours": lambda model, precision: Ours(model, arguments.model, precision, overrides),
        "open_clip": lambda model, precision: OpenClip(copy.deepcopy(model), precision, fused=False, trimmed=False),
        "open_clip+": lambda model, precision: OpenClip(copy.deepcopy(model), precision, fused=True, trimmed=True),
    }
    data = list(data_of(reference, arguments.batch, STEPS, arguments.words))
    if arguments.turns:
        take_turns(arguments.turns, lambda: _steps(makers[arguments.turns](reference, arguments.precision), data))
        return 0
    if arguments.weights and not _agree_exactly(makers, reference):
        return 1
    candidates = {name: make(reference, arguments.precision) for name, make in makers.items()}
    if not _agree(candidates, data[0], arguments.precision):
        return 1
    counted = {} if arguments.no_flops else candidates
    flops = {name: flops_of(partial(_backward, candidate, data[0])) for name, candidate in counted.items()}
    del candidates, counted
    times = pairs_of_times(list(makers), arguments.rounds)
    _print(times, flops, arguments)
    if arguments.json:
        figures = {"title": arguments.model, "seconds": times, "flops": flops, "peak_gb": {}}
        Path(arguments.json).write_text(json.dumps(figures), encoding="utf-8")
    return 0


class Ours:
    """Our blueprint with open_clip's weights."""

    def __init__(self, reference: nn.Module, name: str, precision: str, overrides: Sequence[str] = ()) -> None:
        blueprint = {"coca_ViT-B-32": "coca_openclip_vit_b_32", "coca_ViT-L-14": "coca_openclip_vit_l_14"}[name]
        loaded = Blueprint.load(blueprint, overrides=list(overrides))
        self.checked = loaded.check()
        self.program = loaded.compile("pretrain")["pretrain"].run
        self.model = build(self.checked)
        load_weights(self.model, open_clip_coca.import_state(reference.state_dict()))
        self.model.to(_dtype(precision))
        self.optimizer = torch.optim.AdamW(_groups(self.model), **ADAMW, fused=True)
        self.precision = precision

    def losses(self, data: Data) -> tuple[Tensor, Tensor]:
        images, ids = data
        text = text_of(ids, frame=ids.shape[1])
        longest = min(int(text.lengths.max()) + 1, ids.shape[1])
        text = text_of(ids[:, :longest], frame=ids.shape[1])
        with _autocast(self.precision, images.device):
            results = self.model(self.program, {"image": Image(images), "caption": text})
        weight = {name: loss.weight for name, loss in self.checked.losses.items()}
        return weight["contrastive"] * results["contrastive"].value, weight["captioning"] * results["captioning"].value

    def step(self, data: Data) -> tuple[float, float]:
        contrastive, captioning = self.losses(data)
        (contrastive + captioning).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(contrastive.detach()), float(captioning.detach())

    def tensors(self, read: Callable[[nn.Parameter], Tensor | None]) -> dict[str, Tensor]:
        """Parameters, or something of theirs, under our names."""
        return {
            n.removeprefix("components."): t.clone()
            for n, p in self.model.named_parameters()
            if (t := read(p)) is not None
        }


class OpenClip:
    """open_clip's own model, loss and optimizer."""

    def __init__(self, model: nn.Module, precision: str, *, fused: bool, trimmed: bool) -> None:
        self.model, self.precision, self.trimmed = model.to(_dtype(precision)), precision, trimmed
        self.loss = open_clip.CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0)
        self.rows = Rows()
        if trimmed:
            parametrize.register_parametrization(model.text, "positional_embedding", self.rows, unsafe=True)
        self.optimizer = torch.optim.AdamW(_groups(model), **ADAMW, fused=fused)

    def losses(self, data: Data) -> tuple[Tensor, Tensor]:
        images, ids = data
        if self.trimmed:
            frame = ids.shape[1]
            ids = ids[:, : int((ids != 0).sum(1).max()) + 1]
            self.rows.kept = [*range(ids.shape[1]), frame]
        with _autocast(self.precision, images.device):
            results = self.model(images, ids)
            scores = self.loss(**results, output_dict=True)
        return scores["contrastive_loss"], scores["caption_loss"]

    def step(self, data: Data) -> tuple[float, float]:
        contrastive, captioning = self.losses(data)
        (contrastive + captioning).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(contrastive.detach()), float(captioning.detach())

    def tensors(self, read: Callable[[nn.Parameter], Tensor | None]) -> dict[str, Tensor]:
        """Parameters, or something of theirs, under our names."""
        tensors = {
            name.replace("parametrizations.positional_embedding.original", "positional_embedding"): tensor.clone()
            for name, p in self.model.named_parameters()
            if (tensor := read(p)) is not None
        }
        return open_clip_coca.import_state(tensors)


class Rows(nn.Module):
    """The rows of a position table that a trimmed batch reads: its words', and the CLS's own."""

    kept: list[int] | None = None

    def forward(self, table: Tensor) -> Tensor:
        return table if self.kept is None else table[self.kept]


def _steps(candidate: Any, data: Sequence[Data]) -> Callable[[int], object]:
    return lambda number: candidate.step(data[number % len(data)])


def _backward(candidate: Any, data: Data) -> None:
    contrastive, captioning = candidate.losses(data)
    (contrastive + captioning).backward()
    candidate.optimizer.zero_grad()


def _agree(candidates: dict[str, Any], data: Data, precision: str) -> bool:
    """Losses within 1e-5 and gradients within 1e-4 of their norms (2e-2 of both in bf16); what differs is printed."""
    results = {name: _gradients(candidate, data) for name, candidate in candidates.items()}
    limits = (1e-5, 1e-4) if precision == "fp32" else (2e-2, 2e-2)
    fine = True
    for name in ("open_clip", "open_clip+"):
        losses, gradients = _distances(results["ours"], results[name])
        print(f"{precision}: ours and {name}: losses differ by {losses:.1e}, gradients by {gradients:.1e}")
        fine &= losses <= limits[0] and gradients <= limits[1]
    return fine or _nothing_to_time()


def _agree_exactly(makers: dict[str, Callable[[nn.Module, str], Any]], start: nn.Module) -> bool:
    """In float64: losses and gradients within 1e-6, weights after the steps within 1e-3 of a tensor's largest change.

    Scores are float32 all the same. One candidate at a time, and two records a step: each takes 8 GB here, so that
    what is kept of one (gradients, and changes of the weights) is kept in float32.
    """
    begun = open_clip_coca.import_state(start.state_dict())
    data = [(images.double(), ids) for images, ids in data_of(start, 2, STEPS)]
    reference: Any = None
    fine = True
    for name, make in makers.items():
        candidate = make(start, "fp64")
        first = _gradients(candidate, data[0])
        for batch in data:
            candidate.step(batch)
        changes = {n: (w - begun[n]).float() for n, w in candidate.tensors(lambda p: p.detach()).items()}
        del candidate
        if reference is None:
            reference = (first, changes)
            continue
        losses, gradients = _distances(reference[0], first)
        changed = {
            n: float((reference[1][n] - change).abs().max() / change.abs().max().clamp_min(1e-30))
            for n, change in changes.items()
            if not n.endswith(NOISE)
        }
        worst = max(changed, key=lambda n: changed[n])
        print(f"float64: ours and {name}: losses differ by {losses:.1e}, gradients by {gradients:.1e}, "
              f"weights after {STEPS} steps by {changed[worst]:.1e} of their largest change ({worst})")  # fmt: skip
        fine &= losses <= 1e-6 and gradients <= 1e-6 and changed[worst] <= 1e-3
    return fine or _nothing_to_time()


def _nothing_to_time() -> bool:
    print("the numbers differ, so there is nothing to time")
    return False


def _gradients(candidate: Any, data: Data) -> tuple[tuple[float, float], dict[str, Tensor]]:
    """Losses, and the gradients of their sum by our names of the parameters."""
    contrastive, captioning = candidate.losses(data)
    (contrastive + captioning).backward()
    gradients: dict[str, Tensor] = candidate.tensors(lambda p: None if p.grad is None else p.grad.float())
    candidate.optimizer.zero_grad()
    return (float(contrastive.detach()), float(captioning.detach())), gradients


def _distances(a: tuple[Any, dict[str, Tensor]], b: tuple[Any, dict[str, Tensor]]) -> tuple[float, float]:
    """The largest relative distance of the losses, and of the gradients (of its norm and 1% of the largest one)."""
    losses = max(abs(x - y) / abs(y) for x, y in zip(a[0], b[0], strict=True))
    largest = max(float(g.norm()) for g in b[1].values())
    return losses, max(float((a[1][n] - g).norm()) / (float(g.norm()) + 1e-2 * largest) for n, g in b[1].items())


def shape(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Give what is not as the model's name says: configurations for open_clip, and overrides for us that equal them."""
    config = open_clip.get_model_config(arguments.model)
    parts = ("vision_cfg", "text_cfg", "multimodal_cfg")
    changes: dict[str, dict[str, Any]] = {part: {} for part in parts}
    overrides: list[str] = []
    if depth := arguments.depth or (TINY_DEPTH if arguments.size == "tiny" else None):
        changes = {part: {"layers": depth} for part in parts}
        overrides += [f"components.{tower}.depth={depth}" for tower in ("vision", "unimodal", "multimodal")]
    whole: dict[str, Any] = {}
    if arguments.size == "tiny":
        whole["embed_dim"] = TINY_WIDTH
        changes = {part: {**own, "width": TINY_WIDTH} for part, own in changes.items()}
        changes["vision_cfg"]["image_size"] = TINY_IMAGE
        overrides += [f"components.{part}.width={TINY_WIDTH}" for part in ("vision", "pool", "unimodal")]
        overrides += [f"components.{part}.out={TINY_WIDTH}" for part in ("image_proj", "text_proj")]
        overrides += ["components.vision.heads=1", f"inputs.image.size={TINY_IMAGE}"]
    return {**whole, **{part: {**config[part], **own} for part, own in changes.items()}}, overrides


def data_of(model: nn.Module, batch: int, count: int, bounds: Sequence[int] = WORDS) -> Iterator[Data]:
    """Random pictures, and captions of so many tokens in the frame."""
    size = model.visual.image_size
    side = size if isinstance(size, int) else size[0]
    frame, words = model.text.context_length, model.text.vocab_size
    for _ in range(count):
        ids = torch.zeros(batch, frame, dtype=torch.long)
        for row, length in enumerate(torch.randint(bounds[0], bounds[1] + 1, (batch,)).tolist()):
            ids[row, :length] = torch.randint(1, words - 2, (length,))
            ids[row, 0], ids[row, length - 1] = words - 2, words - 1
        yield torch.randn(batch, 3, side, side), ids


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    return [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]


def _dtype(precision: str) -> torch.dtype:
    return torch.float64 if precision == "fp64" else torch.float32


def _autocast(precision: str, device: torch.device) -> Any:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _print(times: Mapping[str, Times], flops: Mapping[str, int], arguments: argparse.Namespace) -> None:
    print(f"{arguments.model}, batch {arguments.batch}, {arguments.precision}, {torch.get_num_threads()} threads, "
          f"torch {torch.__version__}, median of {arguments.rounds} steps")  # fmt: skip
    print_pairs(times, flops)


def command_line() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="coca_ViT-B-32", choices=("coca_ViT-B-32", "coca_ViT-L-14"))
    parser.add_argument("--size", default="base", choices=("base", "tiny"), help="tiny: to try the benchmark itself")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--words", type=int, nargs=2, default=WORDS, help="bounds of a caption's length, in tokens")
    parser.add_argument("--depth", type=int, help="layers of each of the three towers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", action="store_true", help=f"compare weights after {STEPS} steps, in float64")
    parser.add_argument("--no-flops", action="store_true", help="count none, which takes as long as a step of each")
    parser.add_argument("--json", help="also write the figures into this file")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    add_turns(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
