"""From pixels to patches: one convolution as wide as a patch, or a stack of small ones."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from compose_vlp.errors import nearest_numbers
from compose_vlp.graph.kinds import Clash

COLOURS = 3


def patch_clashes(size: int | None, patch: int, stem: str, stem_depth: int = 0) -> tuple[Clash, ...]:
    """Sizes of picture and patch that do not go together, as far as the picture's is known, and a depth of no stack."""
    clashes = []
    if stem == "patch" and stem_depth:
        message = f"a stem of one convolution has no depth, and `stem_depth` is {stem_depth}"
        clashes.append(Clash(message, ("stem", "stem_depth"), ("stem_depth: 0", "or stem: convolution")))
    if size is not None and size % patch:
        patches = nearest_numbers(patch, [p for p in range(1, size + 1) if size % p == 0])
        sizes = (size // patch * patch, (size // patch + 1) * patch)
        hints = (
            f"patch: {' or '.join(map(str, patches))} for size {size}",
            f"size: {' or '.join(str(s) for s in sizes if s > 0)} for patch {patch}",
        )
        clashes.append(Clash(f"patch {patch} does not divide size {size}", ("patch", "size"), hints))
    if stem == "convolution" and patch & (patch - 1):
        hint = f"patch: {' or '.join(map(str, nearest_numbers(patch, [2**i for i in range(12)])))}"
        message = f"a convolutional stem halves the image, so patch {patch} has to be a power of 2"
        clashes.append(Clash(message, ("stem", "patch"), (hint,)))
    return tuple(clashes)


class PatchStem(nn.Module):
    """Each square of `patch` pixels to one vector (Dosovitskiy et al. 2021); `[batch, 3, size, size]` to
    `[batch, (size / patch) ** 2, width]`, row by row."""

    def __init__(self, width: int, patch: int, *, bias: bool = True) -> None:
        super().__init__()
        self.projection = nn.Conv2d(COLOURS, width, patch, stride=patch, bias=bias)
        nn.init.normal_(self.projection.weight, std=(COLOURS * patch * patch) ** -0.5)
        if self.projection.bias is not None:
            nn.init.zeros_(self.projection.bias)

    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch tokens width"]:
        patches: Tensor = self.projection(pixels).flatten(2).transpose(1, 2)
        return patches


class ConvolutionStem(nn.Module):
    """Halving 3 x 3 convolutions down to the patch grid, `flat` more upon it, then a 1 x 1 one (Xiao et al. 2021).

    Shapes as `PatchStem`. Channels double up to `width`; those upon the grid are residual. The norms are over each
    picture by itself, where the paper's are over the batch: rows stay independent of each other.
    """

    def __init__(self, width: int, patch: int, flat: int = 0) -> None:
        super().__init__()
        halvings = patch.bit_length() - 1
        channels = [COLOURS, *(max(width >> (halvings - 1 - i), 1) for i in range(halvings))]
        blocks = [
            nn.Sequential(nn.Conv2d(n, m, 3, stride=2, padding=1, bias=False), nn.GroupNorm(1, m), nn.GELU())
            for n, m in pairwise(channels)
        ]
        self.blocks = nn.Sequential(*blocks)
        last = channels[-1]
        self.flat = nn.ModuleList(
            nn.Sequential(nn.Conv2d(last, last, 3, padding=1, bias=False), nn.GroupNorm(1, last), nn.GELU())
            for _ in range(flat)
        )
        self.projection = nn.Conv2d(channels[-1], width, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, pixels: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch tokens width"]:
        grid: Tensor = self.blocks(pixels)
        for block in self.flat:
            grid = grid + block(grid)
        patches: Tensor = self.projection(grid).flatten(2).transpose(1, 2)
        return patches
