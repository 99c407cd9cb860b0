"""Hidden patches, in blocks, as BEiT hides them."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.patches import patch_clashes
from compose_vlp.graph.kinds import Clash
from compose_vlp.registry import EACH, Patches, Settings, component, inferred, known
from compose_vlp.values import Image, Mask

SMALLEST = 16
"""Patches of the smallest block that is drawn; where fewer are missing, the area lies between these and it."""
ASPECT = 0.3
"""Height by width of a block is between this and its inverse."""
TRIES = 10
"""Blocks that are drawn in a row without one that fits, before single patches fill up."""


@component("patch_masker", rows="independent", state="none", draws="choice", cuts=True)
class PatchMasker(nn.Module):
    """Hides the same number of patches of every picture, in blocks (BEiT, Bao et al. 2022, algorithm 1).

    A block's area is uniform from 16 patches to what is still missing, its aspect log-uniform from 0.3 to 1/0.3, its
    place uniform. It is taken if its sides are below the grid's and it hides something new and no more than is
    missing. After 10 blocks in a row that do not fit, single patches are hidden at random, as in BEiT's code.
    """

    class Config(Settings):
        patch: int = Field(16, gt=0, description="side of a patch in pixels; it divides the image's size")
        ratio: float = Field(0.4, gt=0, lt=1, description="share of the patches that are hidden, to the nearest number")
        size: int = inferred(description="side of the image in pixels")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self, image: Annotated[Image, "rows size", EACH]
    ) -> Annotated[Mask, "rows patches", Patches("size / patch")]:
        """Pixels `[batch, 3, size, size]` to a mask `[batch, patches]`, each row with as many hidden ones."""
        pixels, side = image.pixels, self.config.size // self.config.patch
        if pixels.device.type == "meta":
            return Mask(torch.empty(len(pixels), side**2, dtype=torch.bool, device="meta"))
        # Drawn on the processor: whether a block fits decides what is drawn next, and would stop an accelerator.
        return Mask(draw_blocks(len(pixels), side, hidden_patches(self.config)).to(pixels.device, non_blocking=True))

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        return patch_clashes(config.size, config.patch, "patch") if known(config.size) else ()


def hidden_patches(config: PatchMasker.Config) -> int:
    """Count the patches of a picture that are hidden: at least one."""
    return max(1, round(config.ratio * (config.size // config.patch) ** 2))


def draw_blocks(rows: int, side: int, number: int) -> Tensor:
    """Masks `[rows, side * side]`, `number` patches of each hidden; all rows draw their next block together."""
    hidden = torch.zeros(rows, side, side, dtype=torch.bool)
    tries = torch.zeros(rows, dtype=torch.long)
    while True:
        missing = number - hidden.flatten(1).sum(1)
        active = ((missing > 0) & (tries < TRIES)).nonzero()[:, 0]
        if not len(active):
            return _fill_up(hidden.flatten(1), missing)
        height, width = block_sides(missing[active])
        block = _placed(height, width, side)
        new = (block & ~hidden[active]).flatten(1).sum(1)
        fits = (height < side) & (width < side) & (new > 0) & (new <= missing[active])
        hidden[active] |= block & fits[:, None, None]
        tries[active] = torch.where(fits, 0, tries[active] + 1)


def block_sides(missing: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width in patches of a block for each row `[rows]`, of which so many are missing."""
    area = SMALLEST + torch.rand(len(missing)) * (missing - SMALLEST)
    aspect = (math.log(ASPECT) * (1 - 2 * torch.rand(len(missing)))).exp()
    return (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()


def _placed(height: Tensor, width: Tensor, side: int) -> Tensor:
    """Blocks of these sides at random places of the grid, `[rows, side, side]`."""
    places = torch.arange(side)
    spans = []
    for length in (height, width):
        free = (side - length + 1).clamp(min=1)
        start = (torch.rand(len(length)) * free).long()[:, None]
        spans.append((places >= start) & (places < start + length[:, None]))
    return spans[0][:, :, None] & spans[1][:, None, :]


def _fill_up(hidden: Tensor, missing: Tensor) -> Tensor:
    """Hide single patches at random, so many of each row as it is missing."""
    order = torch.rand(hidden.shape).masked_fill(hidden, 2).argsort(1).argsort(1)  # places among those that are shown
    return hidden | (order < missing[:, None])
