"""Tables of positions of a file, for another size of image or length of text."""

from __future__ import annotations

import torch
from torch import Tensor

from compose_vlp.errors import UserError
from compose_vlp.interop.maps.name_map import Converted
from compose_vlp.values.tables import resize_grid


def fit_positions(
    converted: Converted, name: str, rows: int, first: int, first_in_file: int, *, antialias: bool = True
) -> Converted:
    """The table `name` `[..., rows, width]` with `rows` rows: its patches interpolated to another grid, the rows before
    them kept, or left out.

    `first` rows of ours, and `first_in_file` of the file's, stand before the patches: a CLS's. `antialias` is timm's
    way; ALBEF's and BLIP's own code does without.

    Raises:
        UserError: ours has such rows, and the file has not as many.
    """
    table = converted.tensors.get(name)
    if table is None or table.ndim < 2 or not table.numel():  # of no kind of shape, as will be told
        return converted
    flat = table.reshape(-1, table.shape[-1])
    patches = flat[first_in_file:]
    if first and first != first_in_file:
        has = f"has {first_in_file} rows" if first_in_file else "has no row"
        raise UserError(
            f"`start`: the file's `{name}` {has} for a CLS, and this component has {'a CLS' if first == 1 else first}"
        )
    resized = resize_grid(patches, rows - first, antialias=antialias)
    notes = []
    if len(resized) != len(patches):
        notes.append(f"{name}: {_grid(len(patches))} patches resized to {_grid(len(resized))}")
    if first_in_file and not first:
        notes.append(f"{name}: the row of the CLS is left out")
    return _with(converted, name, torch.cat((flat[:first], resized)), *notes)


def first_positions(converted: Converted, name: str, rows: int, last: int = 0) -> Converted:
    """The table `name` without the positions that no text here is long enough for; too short a one stays as it is.

    Its `last` rows, which are no words', stay the last.
    """
    table = converted.tensors.get(name)
    if table is None or table.ndim < 2 or not table.numel() or table.shape[-2] <= rows:
        return converted
    flat = table.reshape(-1, table.shape[-1])
    kept = torch.cat((flat[: rows - last], flat[len(flat) - last :]))
    return _with(converted, name, kept, f"{name}: the first {rows - last} of {len(flat) - last}")


def _with(converted: Converted, name: str, rows: Tensor, *notes: str) -> Converted:
    before = converted.tensors[name]
    table = rows.reshape(*before.shape[:-2], *rows.shape)
    return Converted({**converted.tensors, name: table}, converted.sources, (*converted.notes, *notes))


def _grid(patches: int) -> str:
    side = round(patches**0.5)
    return f"{side} x {side}"
