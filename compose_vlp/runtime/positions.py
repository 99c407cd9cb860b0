"""Tables of positions for other numbers of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from compose_vlp.errors import UserError


def resize_table(table: Tensor, rows: int, *, image: bool, start: Tensor) -> Tensor:
    """`[positions, width]` to `[rows, width]`: of pictures, the grid interpolated behind its CLS; of texts, the first
    ones, and after the last one those of `start`."""
    if not image:
        return torch.cat((table[:rows], start[len(table) :].to(table)))
    cls = len(table) - round(len(table) ** 0.5) ** 2
    return torch.cat((table[:cls], resize_grid(table[cls:], rows - cls)))


def resize_grid(table: Tensor, rows: int, *, antialias: bool = True) -> Tensor:
    """`[g * g, width]` to `[rows, width]`, bicubic, with antialiasing as timm does; `rows` is a square too.

    Raises:
        UserError: one of them is no square.
    """
    if len(table) == rows:
        return table
    before, after = round(len(table) ** 0.5), round(rows**0.5)
    if before * before != len(table) or after * after != rows:
        raise UserError(f"positions of {len(table)} patches cannot be resized to {rows}: no squares")
    grid = table.float().reshape(1, before, before, -1).permute(0, 3, 1, 2)
    resized = interpolate(grid, size=(after, after), mode="bicubic", antialias=antialias)
    return resized.permute(0, 2, 3, 1).reshape(rows, -1).to(table.dtype)
