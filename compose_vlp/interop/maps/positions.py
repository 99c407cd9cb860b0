"""Tables of positions for another size of image."""

from __future__ import annotations

import torch

from compose_vlp.errors import UserError
from compose_vlp.interop.maps.name_map import Converted
from compose_vlp.runtime.positions import resize_grid


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
    table = converted.tensors.get(name)
    if table is None or len(table) <= rows:
        return converted
    note = f"{name}: the first {rows} of {len(table)}"
    return Converted({**converted.tensors, name: table[:rows]}, converted.sources, (*converted.notes, note))


def _grid(patches: int) -> str:
    side = round(patches**0.5)
    return f"{side} x {side}"
