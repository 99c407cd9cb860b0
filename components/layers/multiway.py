"""Experts: one module for each modality, to which runs of positions go (Bao et al. 2022, Wang et al. 2023)."""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as List

import torch
from jaxtyping import Float
from torch import Tensor, nn

from compose_vlp.components.layers.attention import SelfAttention
from compose_vlp.components.layers.residual import Residual, drop_path
from compose_vlp.components.layers.scope import Run, Scope
from compose_vlp.values import Part

ANY = "any"
"""The expert that takes what has none of its own name."""


def choose(name: str, experts: Iterable[str]) -> str | None:
    """The expert of a name, or else `any`; None where there is neither."""
    known = tuple(experts)
    return name if name in known else ANY if ANY in known else None


def runs_of(parts: Iterable[Part], experts: Iterable[str], expert: str | None) -> tuple[Run, ...]:
    """Which positions go to which expert: each part to that of its name, or all to one; neighbours together.

    Raises:
        ValueError: a part has no expert, which the checker finds first.
    """
    runs: list[Run] = []
    known = tuple(experts)
    for part in parts:
        chosen = choose(part.name if expert is None else expert, known)
        if chosen is None:
            raise ValueError(f"no expert takes the part {part.name!r}: there are {', '.join(known)}")
        if runs and runs[-1].expert == chosen:
            runs[-1] = runs[-1]._replace(stop=part.start + part.length)
        else:
            runs.append(Run(chosen, part.start, part.start + part.length))
    return tuple(runs)


class Experts(nn.ModuleDict):
    """Modules of `[batch, n, width]` by the name of their modality."""

    def forward(self, x: Float[Tensor, "batch n width"], runs: List[Run]) -> list[Tensor]:
        """What each run's expert makes of it, one after the other."""
        if len(runs) == 1:
            return [self[runs[0].expert](x)]
        return [self[run.expert](x[:, run.start : run.stop]) for run in runs]


def joined(pieces: List[Tensor]) -> Tensor:
    """Runs put together again, `[batch, n, width]`; one alone is not copied."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), 1)


class MultiwayAttention(nn.Module):
    """Self-attention of all positions together, whose norm and maps each modality has of its own (BEiT-3 as released).

    `norms` and `attentions` are by modality; of the attentions the maps are used, and the first one's heads.
    """

    def __init__(self, norms: Mapping[str, nn.Module], attentions: Mapping[str, SelfAttention]) -> None:
        super().__init__()
        self.norms = nn.ModuleDict(norms)
        self.maps = nn.ModuleDict(attentions)

    def forward(self, x: Float[Tensor, "batch n width"], scope: Scope) -> Float[Tensor, "batch n width"]:
        """Attend within `scope`, positions mapped by their runs."""
        maps = {run.expert: self._maps(run.expert) for run in scope.runs}
        projected = [maps[run.expert].project(self.norms[run.expert](_cut(x, run, scope))) for run in scope.runs]
        seen = maps[scope.runs[0].expert].attend(joined(projected), scope)
        return joined([maps[run.expert].mix(_cut(seen, run, scope)) for run in scope.runs])

    def _maps(self, expert: str) -> SelfAttention:
        maps = self.maps[expert]
        assert isinstance(maps, SelfAttention)
        return maps


def _cut(x: Tensor, run: Run, scope: Scope) -> Tensor:
    return x if len(scope.runs) == 1 else x[:, run.start : run.stop]


class MultiwayLayer(nn.Module):
    """Self-attention over all positions, then each run's own norm and FFN; `[batch, n, width]` all along.

    `scale` `[width]` is that of all FFNs together (VLMo's `gamma_2`). With `drop_by_part` each run's FFN is skipped by
    a draw of its own, as VLMo does; else a row's FFN is skipped as a whole, as BEiT-3 does.
    """

    def __init__(
        self,
        self_attention: Residual,
        experts: Mapping[str, nn.Module],
        *,
        scale: nn.Parameter | None,
        drop_path: float,
        drop_by_part: bool,
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.experts = Experts(experts)
        self.ffn_scale = scale
        self.drop_path = drop_path
        self.drop_by_part = drop_by_part

    def forward(self, x: Float[Tensor, "batch n width"], scope: Scope) -> Float[Tensor, "batch n width"]:
        """Attend within `scope`, and send each of its runs through its expert."""
        x = self.self_attention(x, scope)
        rate = self.drop_path if self.training else 0.0
        pieces = self.experts(x, scope.runs)
        if self.drop_by_part:
            pieces = [drop_path(piece, rate) for piece in pieces]
        added = joined(pieces)
        if self.ffn_scale is not None:
            added = added * self.ffn_scale
        return x + (added if self.drop_by_part else drop_path(added, rate))
