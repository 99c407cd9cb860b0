"""Vision transformer, with the variants that published vision-language models use of it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import SelfAttention
from compose_vlp.components.layers.checks import heads_divide_width, known, nearest
from compose_vlp.components.layers.linear import branch_std
from compose_vlp.components.layers.mlp import MLP, Activation
from compose_vlp.components.layers.patches import ConvolutionStem, PatchStem
from compose_vlp.components.layers.residual import Residual
from compose_vlp.components.layers.tables import ImageTable
from compose_vlp.components.layers.transformer import Layer
from compose_vlp.graph.kinds import Clash
from compose_vlp.graph.types import SequenceType, one_part
from compose_vlp.registry import EACH, Settings, component, inferred
from compose_vlp.values import Image, Part, Sequence


@component("vit", rows="independent", state="none", draws="noise", noise=("drop_path",))
class VisionTransformer(nn.Module):
    """Vision transformer: pre-norm layers over patches with learned positions.

    Dosovitskiy et al. 2021. The defaults are the layout of timm's and DeiT's ViT-B/16, which ALBEF and BLIP start
    from; open_clip's has `embedding_norm`, `norm_eps: 1e-5` and neither `patch_bias` nor `final_norm`.
    """

    class Config(Settings):
        width: int = Field(768, gt=0, description="features of a token")
        depth: int = Field(12, ge=0, description="layers")
        heads: int = Field(12, gt=0, description="attention heads; they divide the width")
        patch: int = Field(16, gt=0, description="side of a patch in pixels; it divides the image's size")
        mlp_width: int | None = Field(None, gt=0, description="hidden features of the MLP; four widths if left out")
        stem: Literal["patch", "convolution"] = Field(
            "patch", description="one convolution a patch wide, or a stack of halving 3 x 3 ones (patch: a power of 2)"
        )
        stem_depth: int = Field(
            0, ge=0, description="3 x 3 convolutions upon the grid of patches, after the halving ones of such a stem"
        )
        cls: Literal["first", "none"] = Field("first", description="where the CLS vector stands")
        positions: Literal["learned", "none"] = Field("learned", description="what tells the tokens' places")
        embedding_norm: bool = Field(False, description="LayerNorm before the first layer")
        final_norm: bool = Field(True, description="LayerNorm after the last layer, over all tokens")
        norm_eps: float = Field(1e-6, gt=0, description="added to the variance in every LayerNorm")
        activation: Activation = Field("gelu", description="of the MLP")
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
        self.positions = nn.Parameter(torch.empty(tokens, c.width)) if c.positions == "learned" else None
        for vectors in (self.cls, self.positions):
            if vectors is not None:
                nn.init.normal_(vectors, std=0.02)
        self.embedding_norm = nn.LayerNorm(c.width, eps=c.norm_eps) if c.embedding_norm else None
        self.layers = nn.ModuleList(_layer(c, c.drop_path * i / max(c.depth - 1, 1)) for i in range(c.depth))
        self.norm = nn.LayerNorm(c.width, eps=c.norm_eps) if c.final_norm else None

    def forward(self, image: Annotated[Image, "rows size", EACH]) -> Annotated[Sequence, "rows tokens width"]:
        """`[batch, 3, size, size]` to `[batch, tokens, width]`, the patches row by row after the CLS."""
        x: Tensor = self.stem(image.pixels)
        if self.cls is not None:
            x = torch.cat((self.cls.to(x.dtype).expand(len(x), 1, -1), x), 1)
        if self.positions is not None:
            x = x + self.positions
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        for layer in self.layers:
            x = layer(x)
        if self.norm is not None:
            x = self.norm(x)
        return Sequence(x, (Part("vision", 0, x.shape[1], self.config.cls),))

    @staticmethod
    def tables(config: Config) -> Mapping[str, ImageTable]:
        return {"positions": ImageTable(first=int(config.cls == "first"))}

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> SequenceType:
        image = ports["image"]
        length = (config.size // config.patch) ** 2 + (config.cls == "first") if known(config.size) else None
        parts = one_part("vision", length, cls=config.cls, reads=[image.reads])
        return SequenceType(image.rows, parts[0].reads, width=config.width, parts=parts)

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        clashes = list(heads_divide_width(config))
        if known(config.size) and config.size % config.patch:
            patches = nearest(config.patch, [p for p in range(1, config.size + 1) if config.size % p == 0])
            sizes = (config.size // config.patch * config.patch, (config.size // config.patch + 1) * config.patch)
            hints = (
                f"patch: {' or '.join(map(str, patches))} for size {config.size}",
                f"size: {' or '.join(str(s) for s in sizes if s > 0)} for patch {config.patch}",
            )
            clashes.append(Clash(f"patch {config.patch} does not divide size {config.size}", ("patch", "size"), hints))
        if config.stem == "convolution" and config.patch & (config.patch - 1):
            powers = nearest(config.patch, [2**i for i in range(12)])
            hint = f"patch: {' or '.join(map(str, powers))}"
            message = f"a convolutional stem halves the image, so patch {config.patch} has to be a power of 2"
            clashes.append(Clash(message, ("stem", "patch"), (hint,)))
        return tuple(clashes)


def _layer(c: VisionTransformer.Config, drop_path: float) -> Layer:
    std = branch_std(c.width, c.depth)
    attention = SelfAttention(c.width, c.heads, bias=c.qkv_bias, std=std)
    mlp = MLP(c.width, c.mlp_width or 4 * c.width, activation=c.activation, std=std)
    return Layer(
        Residual(attention, nn.LayerNorm(c.width, eps=c.norm_eps), drop_path=drop_path),
        Residual(mlp, nn.LayerNorm(c.width, eps=c.norm_eps), drop_path=drop_path),
    )
