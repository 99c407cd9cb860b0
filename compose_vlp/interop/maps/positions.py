"""Tables of positions for another size of image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from compose_vlp.errors import UserError
from compose_vlp.interop.maps.name_map import Converted


def fit_positions(
    converted: Converted, name: str, rows: int, *, cls: bool, cls_in_file: bool, antialias: bool = True
) -> Converted:
    """The table `name` with `rows` rows: its patches interpolated to another grid, its CLS kept, or left out.

    `cls` says whether a row of ours, the first, is the CLS's; `cls_in_file` the same of the file's table. `antialias`
    is timm's way; ALBEF's and BLIP's own code does without.
    """
    table = converted.tensors.get(name)
    if table is None:
        return converted
    first, patches = table[: int(cls_in_file)], table[int(cls_in_file) :]
    if cls and not cls_in_file:
        raise UserError(f"`start`: the file's `{name}` has no row for a CLS, and this component has a CLS")
    resized = resize_grid(patches, rows - int(cls), antialias=antialias)
    notes = [*converted.notes]
    if len(resized) != len(patches):
        notes.append(f"{name}: {_grid(len(patches))} patches resized to {_grid(len(resized))}")
    if cls_in_file and not cls:
        notes.append(f"{name}: the row of the CLS is left out")
    fitted = torch.cat((first, resized)) if cls else resized
    return Converted({**converted.tensors, name: fitted}, converted.sources, tuple(notes))


def first_positions(converted: Converted, name: str, rows: int) -> Converted:
    """The table `name` without the positions that no text here is long enough for; too short a one stays as it is."""
    table = converted.tensors[name]
    if len(table) <= rows:
        return converted
    note = f"{name}: the first {rows} of {len(table)}"
    return Converted({**converted.tensors, name: table[:rows]}, converted.sources, (*converted.notes, note))


def resize_grid(table: Tensor, rows: int, *, antialias: bool = True) -> Tensor:
    """`[g * g, width]` to `[rows, width]`, bicubic, with antialiasing as timm does or without; `rows` is a square too.

    Raises:
        UserError: one of them is no square.
    """
    if len(table) == rows:
        return table
    before, after = round(len(table) ** 0.5), round(rows**0.5)
    if before * before != len(table) or after * after != rows:
        raise UserError(f"`start`: positions of {len(table)} patches cannot be resized to {rows}: no squares")
    grid = table.float().reshape(1, before, before, -1).permute(0, 3, 1, 2)
    resized = interpolate(grid, size=(after, after), mode="bicubic", antialias=antialias)
    return resized.permute(0, 2, 3, 1).reshape(rows, -1).to(table.dtype)


def _grid(patches: int) -> str:
    side = round(patches**0.5)
    return f"{side} x {side}"
