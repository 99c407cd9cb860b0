"""Tables of positions for other numbers of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from compose_vlp.errors import UserError


def resize_image_table(table: Tensor, rows: int) -> Tensor:
    """`[positions, width]` of a picture to `[rows, width]`: the grid interpolated, a CLS before it kept."""
    cls = len(table) - round(len(table) ** 0.5) ** 2
    return torch.cat((table[:cls], resize_grid(table[cls:], rows - cls)))


def resize_text_table(table: Tensor, start: Tensor, cls: int) -> Tensor:
    """`[positions, width]` of a text to as many rows as `start` has: the first ones, and then those of `start`.

    The last `cls` rows are those of a CLS behind the words, and stay the last.
    """
    words = min(len(table), len(start)) - cls
    kept = len(start) - cls
    return torch.cat((table[:words], start[words:kept].to(table), table[len(table) - cls :]))


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
