"""What multiway towers are made of (Bao et al. 2022, Wang et al. 2023): experts, and relative biases of attention.

An expert is one module for each modality, to which runs of positions go. Biases depend on how two positions lie to each
other, in a picture, in a text and across (VLMo, BEiT).
"""

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as List
from dataclasses import dataclass
from math import isqrt

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.auxiliary import window
from compose_vlp.components.layers.attention import Scope, SelfAttention
from compose_vlp.components.layers.transformer import Residual, drop_path
from compose_vlp.errors import UserError
from compose_vlp.registry import Settings
from compose_vlp.values import Part
from compose_vlp.values.chosen import Chosen, Run

ANY = "any"
"""The expert that takes what has none of its own name."""
CLS_ROWS = 3
"""Rows of each modality's CLS: it looks at another position, that looks at it, and it looks at itself."""
ACROSS_ROWS = 2
"""Rows of all pairs across: a word looks at a picture's position, and the other way round."""


class RelativeSettings(Settings):
    """The settings of relative positions."""

    frame: int | None = Field(
        None, gt=1, description="longest text that the table can take; the longest that comes in if left out"
    )


def choose(name: str, experts: Iterable[str]) -> str | None:
    """The expert of a name, or else `any`; None where there is neither."""
    known = tuple(experts)
    return name if name in known else ANY if ANY in known else None


def runs_of(parts: Iterable[Part], experts: Iterable[str], expert: str | None) -> tuple[Run, ...]:
    """Assign positions to experts: each part to that of its name, or all to one; neighbours together.

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
        """Apply each run's expert to its positions; one result per run, in their order."""
        if len(runs) == 1:
            return [self[runs[0].expert](x)]
        pieces = []
        for run, features in zip(runs, cut(x, runs), strict=True):
            with window(run.start, run.stop):
                pieces.append(self[run.expert](features))
        return pieces


def cut(x: Float[Tensor, "batch n ..."], runs: List[Run]) -> List[Tensor]:
    """Each run's positions, in their order; together, since each slice by itself has a gradient as large as `x`."""
    return (x,) if len(runs) == 1 else x.split([run.stop - run.start for run in runs], 1)


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

    def forward(
        self, x: Float[Tensor, "batch n width"], scope: Scope, chosen: Chosen | None = None
    ) -> Float[Tensor, "batch n width"]:
        """Attend within `scope`, positions mapped by their runs; with `chosen`, what these alone attend to."""
        maps = {run.expert: self._maps(run.expert) for run in scope.runs}
        first = maps[scope.runs[0].expert]
        normed = [
            self.norms[run.expert](features) for run, features in zip(scope.runs, cut(x, scope.runs), strict=True)
        ]
        if chosen is None or not all(attention.parts_apart for attention in maps.values()):
            projected = [maps[run.expert].project(features) for run, features in zip(scope.runs, normed, strict=True)]
            seen = first.attend(joined(projected), scope, chosen)
        else:
            pairs = zip(scope.runs, normed, strict=True)
            keys_values = joined([maps[run.expert].project_part(features, queries=False) for run, features in pairs])
            asking = zip(chosen.runs, cut(chosen.of(joined(normed)), chosen.runs), strict=True)
            asked = [maps[run.expert].project_part(features, queries=True) for run, features in asking]
            seen = first.attend_at(joined(asked), keys_values, scope, chosen)
        runs = scope.runs if chosen is None else chosen.runs
        return joined([maps[run.expert].mix(features) for run, features in zip(runs, cut(seen, runs), strict=True)])

    def _maps(self, expert: str) -> SelfAttention:
        maps = self.maps[expert]
        assert isinstance(maps, SelfAttention)
        return maps


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

    def forward(
        self, x: Float[Tensor, "batch n width"], scope: Scope, chosen: Chosen | None = None
    ) -> Float[Tensor, "batch n width"]:
        """Attend within `scope`, and send each of its runs through its expert; with `chosen`, these positions alone."""
        x = self.self_attention(x, scope, chosen=chosen)
        rate = self.drop_path if self.training else 0.0
        pieces = self.experts(x, scope.runs if chosen is None else chosen.runs)
        if self.drop_by_part:
            pieces = [drop_path(piece, rate) for piece in pieces]
        added = joined(pieces)
        if self.ffn_scale is not None:
            added = added * self.ffn_scale
        return x + (added if self.drop_by_part else drop_path(added, rate))


@dataclass(frozen=True)
class BiasRows:
    """Where the rows of a table stand: patches, their CLS, across, words, their CLS.

    A picture has `grid` patches a side; `frame` is the longest text that the table can take, its CLS counted.
    """

    grid: int
    frame: int

    @property
    def patches(self) -> int:
        """Distances between two patches."""
        return (2 * self.grid - 1) ** 2

    @property
    def words(self) -> int:
        """Distances between two words."""
        return 2 * (self.frame - 1) - 1

    @property
    def across(self) -> int:
        """The first of the rows across."""
        return self.patches + CLS_ROWS

    @property
    def texts(self) -> int:
        """The first of the words' rows."""
        return self.across + ACROSS_ROWS

    @property
    def total(self) -> int:
        """All rows."""
        return self.texts + self.words + CLS_ROWS

    def of_picture(self) -> Int[Tensor, "n n"]:
        """Rows for a picture's CLS and patches: query minus key, row distance before column distance."""
        side = torch.arange(self.grid)
        places = torch.cartesian_prod(side, side)
        apart = places[:, None] - places[None] + self.grid - 1
        inner = apart[..., 0] * (2 * self.grid - 1) + apart[..., 1]
        return _with_cls(inner, self.patches)

    def of_text(self, length: int) -> Int[Tensor, "n n"]:
        """Rows for a text's CLS and words: key minus query."""
        places = torch.arange(length - 1)
        inner = places[None] - places[:, None] + self.frame - 2 + self.texts
        return _with_cls(inner, self.texts + self.words)


def _with_cls(inner: Tensor, first: int) -> Tensor:
    """Rows with those of a CLS before them: `first` where it looks, the next where it is looked at, then itself."""
    n = len(inner) + 1
    whole = inner.new_empty(n, n)
    whole[1:, 1:] = inner
    whole[0], whole[:, 0], whole[0, 0] = first, first + 1, first + 2
    return whole


class RelativeBias(nn.Module):
    """One table `[rows, heads * depth]` for all layers of a tower, of which each has the columns of its heads.

    Gathered once for a layout of parts, not for each layer. It begins at 0.
    """

    def __init__(self, grid: int, frame: int, heads: int, depth: int) -> None:
        super().__init__()
        self.rows = BiasRows(grid, frame)
        self.heads = heads
        self.table = nn.Parameter(torch.zeros(self.rows.total, heads * depth))
        self._layouts: dict[tuple[tuple[int, bool], ...], Tensor] = {}

    def forward(self, parts: List[Part]) -> Float[Tensor, "layers heads n n"]:
        """Return what is added to the scores of every layer, for positions in these parts."""
        layout = tuple((part.length, part.text is None) for part in parts)
        if layout not in self._layouts or self._layouts[layout].device != self.table.device:
            self._layouts = {layout: self._index(parts).to(self.table.device, non_blocking=True), **self._layouts}
        gathered = nn.functional.embedding(self._layouts[layout], self.table)
        biases: Tensor = gathered.unflatten(-1, (-1, self.heads)).permute(2, 3, 0, 1).contiguous()
        return biases

    def _index(self, parts: List[Part]) -> Int[Tensor, "n n"]:
        blocks = [[self._block(query, key) for key in parts] for query in parts]
        return torch.cat([torch.cat(row, 1) for row in blocks])

    def _block(self, query: Part, key: Part) -> Int[Tensor, "n m"]:
        if query is key:
            return self.rows.of_picture() if query.text is None else self.rows.of_text(query.length)
        row = self.rows.across + (query.text is None)
        return torch.full((query.length, key.length), row)


@dataclass(frozen=True)
class BiasTable:
    """The table of a `RelativeBias`: another size of picture has other patches' rows, and all others stay.

    Patches' rows are resized as BEiT does: on a grid whose places lie closer together near 0, by cubic interpolation.
    """

    frame: int

    def resized(self, table: Tensor, fresh: Tensor) -> Tensor:
        """The table with as many rows as `fresh`."""
        rest = BiasRows(1, self.frame).total - 1
        before, after = (self._side(len(weights) - rest) for weights in (table, fresh))
        if before == after:
            return table
        return torch.cat((resize_distances(table[: before**2], before, after), table[before**2 :]))

    def with_pictures(self, table: Tensor, fresh: Tensor) -> Tensor:
        """`fresh` with the rows of a table of pictures alone (BEiT's: patches and their CLS), these resized."""
        rest = BiasRows(1, self.frame).total - 1
        before, after = self._side(len(table) - CLS_ROWS), self._side(len(fresh) - rest)
        patches = table[: before**2] if before == after else resize_distances(table[: before**2], before, after)
        return torch.cat((patches, table[before**2 :], fresh[after**2 + CLS_ROWS :].to(table)))

    @staticmethod
    def _side(rows: int) -> int:
        side = isqrt(max(rows, 0))
        if side * side != rows or side % 2 == 0:
            raise UserError(f"{rows} rows are no distances of patches of a square picture")
        return side


def resize_distances(table: Tensor, before: int, after: int) -> Tensor:
    """`[before ** 2, columns]` to `[after ** 2, columns]`, each column by itself (BEiT's `geometric` interpolation)."""
    from scipy.interpolate import RectBivariateSpline

    if table.is_meta:  # shapes alone are asked for
        return table.new_empty(after**2, table.shape[1])
    places = _geometric(before, after)
    distances = torch.arange(-(after // 2), after // 2 + 1).double().numpy()
    columns = table.detach().double().cpu().T.reshape(-1, before, before).numpy()
    made = [
        torch.from_numpy(RectBivariateSpline(places, places, grid.T)(distances, distances).T.copy()) for grid in columns
    ]
    return torch.stack(made, -1).reshape(after**2, -1).to(table)


def _geometric(before: int, after: int) -> list[float]:
    """Places of the table's distances on the new one's line, each step longer than the one before by one factor."""
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        factor = (low + high) / 2
        reach = (1 - factor ** (before // 2)) / (1 - factor)
        low, high = (low, factor) if reach > after // 2 else (factor, high)
    steps = [sum(factor**i for i in range(n)) for n in range(1, before // 2 + 1)]
    return [*(-step for step in reversed(steps)), 0.0, *steps]
