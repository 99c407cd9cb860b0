"""Tables with a row for each position, and how one becomes a table of another size.

A kind names its tables in a static hook, `tables(config)`: the path of each, and what its rows are. Where a stage sets
another size of image or length of text, and where `start` reads a file of another one, these are resized as they say;
everything else keeps its shape.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from compose_vlp.errors import UserError


class Table(Protocol):
    """What the rows of a table `[rows, width]` are."""

    def resized(self, table: Tensor, fresh: Tensor) -> Tensor:
        """Resize the table to as many rows as `fresh`, a newly drawn one, which gives the rows that it cannot.

        Raises:
            UserError: it cannot be resized so.
        """


@dataclass(frozen=True)
class ImageTable:
    """A row for each patch of a square picture, row by row, after `first` rows that are no patches (a CLS)."""

    first: int = 0

    def resized(self, table: Tensor, fresh: Tensor) -> Tensor:
        """Interpolate the grid, and keep the rows before it."""
        patches = resize_grid(table[self.first :], len(fresh) - self.first)
        return torch.cat((table[: self.first], patches))


@dataclass(frozen=True)
class TextTable:
    """A row for each word, before `last` rows that are no words (a CLS)."""

    last: int = 0

    def resized(self, table: Tensor, fresh: Tensor) -> Tensor:
        """Keep the first rows, and add new ones where there are too few; the last rows stay the last."""
        kept = len(fresh) - self.last
        words = min(len(table) - self.last, kept)
        return torch.cat((table[:words], fresh[words:kept].to(table), table[len(table) - self.last :]))


def resize_table(kind: Table, table: Tensor, fresh: Tensor) -> Tensor:
    """Resize a table `[..., rows, width]`, leading dimensions of 1 allowed, to the shape of `fresh`.

    Raises:
        UserError: its other dimensions are not those of `fresh`, or it cannot be resized so.
    """
    if table.shape[-1] != fresh.shape[-1] or table.dim() != fresh.dim():
        raise UserError(f"a table of {list(table.shape)} cannot be made one of {list(fresh.shape)}")
    rows = kind.resized(*(tensor.reshape(-1, tensor.shape[-1]) for tensor in (table, fresh)))
    return rows.reshape(fresh.shape)


def before_patches(rows: int) -> int:
    """Rows of an image's table that are no patches: what is left of the largest square."""
    return rows - isqrt(rows) ** 2


def resize_grid(table: Tensor, rows: int, *, antialias: bool = True) -> Tensor:
    """`[g * g, width]` to `[rows, width]`, bicubic, with antialiasing as timm does; `rows` is a square too.

    Raises:
        UserError: one of them is no square.
    """
    if len(table) == rows:
        return table
    before, after = round(len(table) ** 0.5), round(max(rows, 0) ** 0.5)
    if not before or before * before != len(table) or after * after != rows:
        raise UserError(f"positions of {len(table)} patches cannot be resized to {rows}: no squares")
    grid = table.float().reshape(1, before, before, -1).permute(0, 3, 1, 2)
    resized = interpolate(grid, size=(after, after), mode="bicubic", antialias=antialias)
    return resized.permute(0, 2, 3, 1).reshape(rows, -1).to(table.dtype)
