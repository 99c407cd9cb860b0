"""Biases of attention by how two positions lie to each other, in a picture, in a text and across (VLMo, BEiT)."""

from collections.abc import Sequence as List
from dataclasses import dataclass
from math import isqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from compose_vlp.errors import UserError
from compose_vlp.values import Part

CLS_ROWS = 3
"""Rows of each modality's CLS: it looks at another position, that looks at it, and it looks at itself."""
ACROSS_ROWS = 2
"""Rows of all pairs across: a word looks at a picture's position, and the other way round."""


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
        """What is added to the scores of every layer, for positions in these parts."""
        layout = tuple((part.length, part.text is None) for part in parts)
        if layout not in self._layouts or self._layouts[layout].device != self.table.device:
            self._layouts = {layout: self._index(parts).to(self.table.device), **self._layouts}
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
        before, after = (self._side(len(one) - rest) for one in (table, fresh))
        if before == after:
            return table
        return torch.cat((resize_distances(table[: before**2], before, after), table[before**2 :]))

    @staticmethod
    def _side(rows: int) -> int:
        side = isqrt(max(rows, 0))
        if side * side != rows or side % 2 == 0:
            raise UserError(f"{rows} rows are no distances of patches of a square picture")
        return side


def resize_distances(table: Tensor, before: int, after: int) -> Tensor:
    """`[before ** 2, columns]` to `[after ** 2, columns]`, each column by itself (BEiT's `geometric` interpolation)."""
    from scipy.interpolate import RectBivariateSpline

    places = _geometric(before, after)
    wanted = torch.arange(-(after // 2), after // 2 + 1).double().numpy()
    columns = table.detach().double().cpu().T.reshape(-1, before, before).numpy()
    made = [torch.from_numpy(RectBivariateSpline(places, places, grid.T)(wanted, wanted).T.copy()) for grid in columns]
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
