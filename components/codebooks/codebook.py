"""Codes of positions, as BEiT v2 makes words of a picture's patches (VQ-KD)."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.layers.attention import tanh_map
from compose_vlp.components.layers.precision import full_precision
from compose_vlp.errors import UserError
from compose_vlp.graph.types import LabelsType, NumberType, RecordType, SequenceType
from compose_vlp.protocols import Keeps
from compose_vlp.registry import EACH, Settings, component, inferred
from compose_vlp.values import Labels, Number, Record, Sequence
from compose_vlp.values.processes import all_rows, together

ROUNDS = 10
"""Rounds of k-means on the first batch."""


@component("codebook", rows="batch", state="learns", draws="none")
class Codebook(nn.Module, Keeps):
    """Each position gets the code whose vector is nearest to it (BEiT v2, Peng et al. 2022, 2.2 and 2.3).

    A position is mapped to `code_width` features by two maps with a tanh between, in float32, and normed to length
    one, as codes are. In training the codes begin as the centres of k-means on the first batch, and move after every
    step towards the mean of what chose them; those that nobody chose stay. Counts and sums are over all processes.
    Frozen or in evaluation nothing moves.
    """

    class Config(Settings):
        size: int = Field(8192, gt=1, description="codes")
        code_width: int = Field(32, gt=0, description="features of a code")
        decay: float = Field(0.99, gt=0, lt=1, description="of the moving average by which codes follow")
        init_std: float | None = Field(None, gt=0, description="of both maps' weights; by their widths if left out")
        width: int = inferred(description="features of a position")

    parts: Mapping[str, str] = {"projection": "projection"}

    codes: Tensor
    started: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.projection = tanh_map(config.width, config.code_width, config.init_std)
        self.register_buffer("codes", F.normalize(torch.randn(config.size, config.code_width), dim=1))
        self.register_buffer("started", torch.zeros(1, dtype=torch.bool))
        self.centres: Tensor | None = None  # of the first batch, until the step is done
        self.pending: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Annotated[Sequence, "rows tokens width", EACH]) -> Record:
        """`[batch, tokens, width]` to codes `[batch, tokens]`, their vectors `[batch, tokens, code_width]` and a
        commitment `[batch]`: how far positions are from them. Gradients go through as if there were no codes."""
        with full_precision(x.features.device):
            projected = F.normalize(self.projection(x.features.to(self.codes.dtype)), dim=-1)
            codes = self._codes(projected)
            ids = (projected.detach() @ codes.T).argmax(-1)
            vectors = F.embedding(ids, codes)
            if self._learns():
                self._remember(projected.detach().flatten(0, -2), ids.flatten())
            commitment = (vectors - projected).square().mean((1, 2))
        quantised = x.with_features(projected + (vectors - projected).detach())
        return Record(codes=Labels(ids), quantised=quantised, commitment=Number(commitment))

    @torch.no_grad()
    def commit(self) -> None:
        """Move the codes by what chose them since the last call; the runtime calls this once a step."""
        if not self.pending:
            return
        if self.centres is not None:
            self.codes.copy_(self.centres)
            self.started.fill_(True)
        counts, sums = (torch.stack(pieces).sum(0) for pieces in zip(*self.pending, strict=True))
        self.centres, self.pending = None, []
        if together():
            both = torch.cat((counts[:, None], sums), 1)
            dist.all_reduce(both)
            counts, sums = both[:, 0], both[:, 1:]
        means = torch.where(counts[:, None] > 0, F.normalize(sums, dim=1), self.codes)
        self.codes.copy_(F.normalize(self.config.decay * self.codes + (1 - self.config.decay) * means, dim=1))

    def _learns(self) -> bool:
        return self.training and any(p.requires_grad for p in self.projection.parameters())

    def _codes(self, projected: Tensor) -> Tensor:
        """The vectors of codes, which the first batch of training makes."""
        if not self._learns() or projected.device.type == "meta" or bool(self.started):
            return self.codes
        if self.centres is None:
            rows = projected.detach().flatten(0, -2)
            self.centres = kmeans(all_rows(rows) if together() else rows, self.config.size)
        return self.centres

    def _remember(self, projected: Tensor, ids: Tensor) -> None:
        counts = projected.new_zeros(self.config.size).index_add_(0, ids, torch.ones_like(projected[:, 0]))
        self.pending.append((counts, torch.zeros_like(self.codes).index_add_(0, ids, projected)))

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> RecordType:
        x: SequenceType = ports["x"]
        if len(x.parts) != 1:
            names = ", ".join(part.name for part in x.parts)
            raise UserError("codes are of one part's positions", hints=(f"parts: {names}; `x.{x.parts[0].name}`",))
        part = x.parts[0]
        codes = LabelsType(x.rows, x.reads, text=part.text, classes=config.size, part=part.name, counted=x.count)
        return RecordType(
            x.rows,
            x.reads,
            fields={
                "codes": codes,
                "quantised": SequenceType(x.rows, x.reads, width=config.code_width, parts=x.parts),
                "commitment": NumberType(x.rows, x.reads),
            },
        )


@torch.no_grad()
def kmeans(samples: Float[Tensor, "n width"], size: int) -> Float[Tensor, "size width"]:
    """Centres of length one of samples of length one, by their cosines.

    They begin as samples, drawn by a generator that always begins alike, so that all processes draw the same; where
    there are fewer samples than centres, some are drawn twice. A centre that none is nearest to stays.
    """
    generator = torch.Generator().manual_seed(0)
    count = len(samples)
    enough = count >= size
    chosen = (
        torch.randperm(count, generator=generator)[:size]
        if enough
        else torch.randint(count, (size,), generator=generator)
    )
    centres = samples[chosen.to(samples.device)]
    for _ in range(ROUNDS):
        nearest = (samples @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, samples)
        taken = torch.bincount(nearest, minlength=size) > 0
        centres = torch.where(taken[:, None], F.normalize(sums, dim=1), centres)
    return centres
