"""Maps over pictures: where a map's square lies in a picture, its highest place, and it as colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

Resize = Literal["stretch", "crop", "pad"]
FINE = 16
"""Places a patch's side is divided into, where a map is made smooth."""
STRENGTH = 0.65
"""How much of the picture the highest place covers."""
LOW, HIGH = np.array((255, 220, 0), np.float32), np.array((220, 0, 40), np.float32)
CELL, LINE = 224, 22
"""Pixels of a picture's longer side in a sheet, and of the line above it."""
COLUMNS = 5


class Frame(NamedTuple):
    """What a square shows of a picture, in shares of its width and height; a part outside is what was padded."""

    left: float
    top: float
    width: float
    height: float


def frame_of(resize: Resize, width: int, height: int) -> Frame:
    """Frame what is seen of a picture of this size: all of it, stretched; its middle; or all of it with a rim."""
    if resize == "stretch":
        return Frame(0.0, 0.0, 1.0, 1.0)
    side = min(width, height) if resize == "crop" else max(width, height)
    across, down = side / width, side / height
    return Frame((1 - across) / 2, (1 - down) / 2, across, down)


def smooth(heat: Tensor) -> Tensor:
    """Draw a map [side, side] on a finer grid, bicubic as in ALBEF's official evaluation."""
    fine: Tensor = F.interpolate(heat[None, None], scale_factor=FINE, mode="bicubic")[0, 0]
    return fine


def peak(heat: Tensor) -> tuple[float, float]:
    """Return the highest place (x, y) of a map [side, side], in shares of the square."""
    fine = smooth(heat)
    row, column = divmod(int(fine.argmax()), fine.shape[1])
    return (column + 0.5) / fine.shape[1], (row + 0.5) / fine.shape[0]


def over(picture: Image.Image, heat: Tensor, resize: Resize = "stretch") -> Image.Image:
    """Draw the picture under a map [side, side]: yellow to red, the highest place the strongest."""
    width, height = picture.size
    frame = frame_of(resize, width, height)
    fine = smooth(heat).clamp(min=0)
    share = (fine / fine.max().clamp(min=torch.finfo(fine.dtype).tiny)).numpy().astype(np.float32)
    square = Image.fromarray(share).resize(
        (max(1, round(frame.width * width)), max(1, round(frame.height * height))), Image.Resampling.BILINEAR
    )
    seen = Image.new("F", picture.size)
    seen.paste(square, (round(frame.left * width), round(frame.top * height)))
    amount = np.asarray(seen)[..., None].clip(0, 1)
    colour = LOW + (HIGH - LOW) * amount
    under = np.asarray(picture.convert("RGB"), np.float32)
    mixed = under + (colour - under) * amount * STRENGTH
    return Image.fromarray(mixed.round().astype(np.uint8))


def sheet(pictures: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures of one size in rows, each under its title."""
    width, height = pictures[0][1].size
    scale = CELL / max(width, height)
    cell = (max(1, round(width * scale)), max(1, round(height * scale)))
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * (CELL + 8), rows * (cell[1] + LINE + 8)), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for place, (title, picture) in enumerate(pictures):
        left, top = place % columns * (CELL + 8) + 4, place // columns * (cell[1] + LINE + 8)
        pen.text((left, top + 3), title[:30], "black", font)
        canvas.paste(picture.resize(cell, Image.Resampling.BICUBIC), (left, top + LINE))
    return canvas
