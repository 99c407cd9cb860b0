"""The opponents on a GPU: what one would take otherwise, with torch's fused attention and AdamW, beside ours.

Ours and the opponent of a pair are measured one after the other, each in a process of its own, on the same weights and
batches and without dropout; the losses of their first batch are kept, and have to agree.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmarks.gpu_steps import BATCHES, WORDS, Stepped
from benchmarks.racing import Raced, flops_of
from compose_vlp.components.attention.attend import use_backend

Maker = Callable[[int, torch.device], Stepped]
SDPA_ORDER, OURS = "official+", "ours"


class Opponent:
    """Steps of a raced candidate under bfloat16's autocast."""

    def __init__(
        self, raced: Any, data: Sequence[Any], pictures: int, device: torch.device, backend: str = "auto"
    ) -> None:
        self.raced, self.data, self.pictures, self.device, self.backend = raced, data, pictures, device, backend
        raced.model.to(device)
        with use_backend(backend):
            self.losses: Mapping[str, float] = self._first_losses()

    def flops(self) -> int:
        """By torch's counter, which sees products however they are called, with torch's attention."""
        with use_backend("sdpa"):
            return sum(flops_of(partial(self._backward, batch)) for batch in self.data) // len(self.data)

    def step(self, number: int) -> float:
        self._wait()
        begun = time.perf_counter()
        with use_backend(self.backend):
            self.raced.step(self.data[number])
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _first_losses(self) -> dict[str, float]:
        with torch.no_grad():
            return {name: float(loss) for name, loss in named(self.raced.losses(self.data[0])).items()}

    def _backward(self, batch: Any) -> None:
        torch.stack([*named(self.raced.losses(batch)).values()]).sum().backward()
        self.raced.optimizer.zero_grad()


def named(losses: Any) -> dict[str, Tensor]:
    """Losses by name; those of CoCa's race come as two."""
    return losses if isinstance(losses, dict) else dict(zip(("contrastive", "captioning"), losses, strict=True))


def under_autocast(raced: Raced, device: torch.device) -> Raced:
    """The same with its losses computed under bfloat16's autocast."""
    plain = raced.losses

    def losses(data: Any) -> dict[str, Tensor]:
        with torch.autocast(device.type, torch.bfloat16):
            return plain(data)

    raced.losses = losses  # type: ignore[method-assign]
    return raced


def official_order(module: str, name: str, tiny: bool) -> Maker:
    """ALBEF, BLIP or VLMo: ours, or the authors' order of calls with torch's attention, fused AdamW, their padding."""

    def make(batch: int, device: torch.device) -> Stepped:
        import importlib

        from benchmarks.official_order import Bench

        paper = importlib.import_module(f"benchmarks.{module}").PAPER
        asked = argparse.Namespace(size="tiny" if tiny else "base", batch=batch, words=WORDS, without=[])
        bench = Bench(paper, asked)
        raced = under_autocast(bench.make(name), device)
        backend = "sdpa" if name == SDPA_ORDER else "auto"
        return Opponent(raced, [data.to(device) for data in bench.data], batch, device, backend)

    return make


def torchscale(name: str, tiny: bool) -> Maker:
    """BEiT-3's retrieval: ours, or torchscale's model with torch's attention and fused AdamW, texts in their frame."""

    def make(batch: int, device: torch.device) -> Stepped:
        from benchmarks import beit3_step

        sizes = beit3_step.SIZES["tiny" if tiny else "base"]
        torch.manual_seed(0)
        model = beit3_step.TorchscaleRetrieval(*sizes).train()
        raced: Raced
        if name == OURS:
            raced = beit3_step.Ours(model, sizes)
        else:
            raced = beit3_step.Theirs(beit3_step.with_sdpa(model), fused=True, trimmed=False)
        torch.manual_seed(1)  # whatever was drawn before
        data = [beit3_step.data_of(batch, sizes, WORDS) for _ in range(BATCHES)]
        return Opponent(under_autocast(raced, device), moved(data, device), batch, device)

    return make


def open_clip(size: str, name: str) -> Maker:
    """CoCa: ours, or open_clip's model (whose attention is torch's) with fused AdamW, texts in the frame."""

    def make(batch: int, device: torch.device) -> Stepped:
        import open_clip as library

        from benchmarks import coca_step

        torch.manual_seed(0)
        reference = library.create_model(size).train()
        nn.init.normal_(reference.text_decoder.text_projection, std=reference.text_decoder.width**-0.5)
        raced: Any
        if name == OURS:
            raced = coca_step.Ours(reference, size, "bf16")
        else:
            raced = coca_step.OpenClip(reference, "bf16", fused=True, trimmed=False)
        torch.manual_seed(1)  # whatever was drawn before
        data = list(coca_step.data_of(reference, batch, BATCHES))
        return Opponent(raced, moved(data, device), batch, device)

    return make


def moved(data: Any, device: torch.device) -> Any:
    """The same tensors on a device."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor.to(device), data)
