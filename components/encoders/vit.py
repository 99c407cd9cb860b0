"""Vision transformer, with the variants that published vision-language models use of it."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import Scope, branch_std, heads_divide_width
from compose_vlp.components.layers.patches import ConvolutionStem, PatchStem, patch_clashes
from compose_vlp.components.layers.transformer import DEEPEST, Stack, TowerSettings, build_layer, no_biases
from compose_vlp.graph.kinds import Clash
from compose_vlp.registry import EACH, AsPart, Patches, component, inferred
from compose_vlp.values import Image, Part, Sequence
from compose_vlp.values.chosen import Reads, choose_positions
from compose_vlp.values.tables import ImageTable


@component("vit", rows="independent", state="none", draws="noise", noise=("drop_path",), last_layer=True)
class VisionTransformer(nn.Module):
    """Vision transformer: pre-norm layers over patches with learned positions.

    Dosovitskiy et al. 2021. The defaults are the layout of timm's and DeiT's ViT-B/16, which ALBEF and BLIP start
    from; open_clip's has `embedding_norm`, `norm_eps: 1e-5` and neither `patch_bias` nor `final_norm`.
    """

    class Config(TowerSettings):
        width: int = Field(768, gt=0, description="features of a token")
        heads: int = Field(12, gt=0, description="attention heads; they divide the width")
        patch: int = Field(16, gt=0, description="side of a patch in pixels; it divides the image's size")
        stem: Literal["patch", "convolution"] = Field(
            "patch", description="one convolution a patch wide, or a stack of halving 3 x 3 ones (patch: a power of 2)"
        )
        stem_depth: int = Field(
            0,
            ge=0,
            le=DEEPEST,
            description="3 x 3 convolutions upon the grid of patches, after the halving ones of such a stem",
        )
        cls: Literal["first", "none"] = Field("first", description="where the CLS vector stands")
        embedding_norm: bool = Field(False, description="a norm before the first layer?")
        final_norm: bool = Field(True, description="a norm after the last layer, over all tokens?")
        patch_bias: bool = Field(True, description="has the patches' convolution a bias?")
        qkv_bias: bool = Field(True, description="have the maps to queries, keys and values a bias?")
        drop_path: float = Field(
            0.0, ge=0, lt=1, description="probability that a row skips the last layer's branches; lower ones less"
        )
        size: int = inferred(description="side of the image in pixels")

    parts: Mapping[str, str] = {
        "stem": "stem",
        "positions": "positions",
        "self_attention": "layers.*.self_attention",
        "ffn": "layers.*.ffn",
    }

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        convolution = c.stem == "convolution"
        self.stem = (
            ConvolutionStem(c.width, c.patch, c.stem_depth)
            if convolution
            else PatchStem(c.width, c.patch, bias=c.patch_bias)
        )
        tokens = (c.size // c.patch) ** 2 + (c.cls == "first")
        self.cls = nn.Parameter(torch.empty(c.width)) if c.cls == "first" else None
        self.positions = nn.Parameter(torch.empty(tokens, c.width)) if c.has_table else None
        for vectors in (self.cls, self.positions):
            if vectors is not None:
                nn.init.normal_(vectors, std=0.02)
        self.embedding_norm = c.make_norm(c.width) if c.embedding_norm else None
        self.layers = Stack(
            build_layer(
                c,
                c.width,
                c.heads,
                placement="pre",
                qkv_bias=c.qkv_bias,
                drop_path=c.drop_path * i / max(c.depth - 1, 1),
                std=branch_std(c.width, c.depth),
            )
            for i in range(c.depth)
        )
        self.norm = c.make_norm(c.width) if c.final_norm else None

    def forward(
        self, image: Annotated[Image, "rows size", EACH], *, read: Reads | None = None
    ) -> Annotated[Sequence, "rows tokens width", AsPart("vision", cls="cls"), Patches("size / patch")]:
        """`[batch, 3, size, size]` to `[batch, tokens, width]`, the patches row by row after the CLS."""
        x: Tensor = self.stem(image.pixels)
        if self.cls is not None:
            x = torch.cat((self.cls.to(x.dtype).expand(x.shape[0], 1, -1), x), 1)
        if self.positions is not None:
            x = x + self.positions
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        parts = (Part("vision", 0, x.shape[1], self.config.cls),)
        x = self.layers(x, Scope(places=self._places(x.device)), chosen=choose_positions(read, parts, x))
        if self.norm is not None:
            x = self.norm(x)
        return Sequence(x, parts)

    @staticmethod
    def tables(config: Config) -> Mapping[str, ImageTable]:
        return {"positions": ImageTable(first=int(config.cls == "first"))}

    def _places(self, device: torch.device) -> Tensor | None:
        """Row and column of each patch `[tokens, 2]`, counted from 1, after those of the CLS, 0 and 0."""
        if not self.config.turns:
            return None
        side = torch.arange(1, self.config.size // self.config.patch + 1, device=device)
        grid = torch.cartesian_prod(side, side)
        return grid if self.cls is None else torch.cat((grid.new_zeros(1, 2), grid))

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        c = config
        clashes = patch_clashes(c.size, c.patch, c.stem, c.stem_depth)
        if c.stem == "convolution" and not c.patch_bias:
            message = "`patch_bias` is of a stem of one convolution; a stack of them has its own"
            clashes += (Clash(message, ("stem", "patch_bias"), ("patch_bias: true", "or stem: patch")),)
        return (*heads_divide_width(c), *no_biases(c), *clashes)
