"""Pictures as a sequence of patches."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.layers.attention import Linear, has_table
from compose_vlp.components.layers.patches import ConvolutionStem, PatchStem, patch_clashes
from compose_vlp.components.layers.transformer import DEEPEST
from compose_vlp.errors import UserError
from compose_vlp.graph.kinds import Clash
from compose_vlp.graph.types import ImageType, SequenceType, one_part
from compose_vlp.registry import EACH, Settings, When, component, inferred, known
from compose_vlp.slots import Part as SlotPart
from compose_vlp.slots import slot
from compose_vlp.values import Image, Mask, Part, Sequence
from compose_vlp.values.tables import ImageTable

STD = 0.02


@component("patch_embedding", rows="independent", state="none", draws="none")
class PatchEmbedding(nn.Module):
    """Patches of a picture, or of what lies on a grid already, with a CLS, positions and types.

    A hidden patch is replaced by a learnt vector before it gets its position (BEiT, Bao et al. 2022, 2.2). `type`
    chooses one of `types` vectors, which is added last, as VLMo tells words from pictures (Bao et al. 2022, 3.1) and
    one picture of NLVR2 from the other.
    """

    class Config(Settings):
        width: int = Field(768, gt=0, description="features of a position")
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
        bias: bool = Field(True, description="has the map of the patches a bias?")
        cls: Literal["first", "none"] = Field("first", description="where the CLS vector stands")
        positions: SlotPart = slot("positions", "learned", "what tells the positions' places; a table if `learned`")
        types: int = Field(0, ge=0, description="vectors of which the port `type` chooses one to be added")
        mask_token: bool = Field(False, description="is there a vector for hidden patches?")
        size: int | None = inferred("x.size", "side of the image in pixels")
        input_width: int | None = inferred(description="features of what lies on a grid already")
        tokens: int | None = inferred("x.tokens", "positions of what lies on a grid already")

    parts: Mapping[str, str] = {"stem": "stem", "cls": "cls", "positions": "positions", "types": "types"}

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = c = config
        self.stem = self._stem()
        side = _side(c)
        rows = side**2 + (c.cls == "first")
        self.cls = _vectors(c.cls == "first", c.width)
        self.positions = _vectors(has_table(c.positions), rows, c.width)
        self.types = _vectors(c.types > 0, c.types, c.width)
        self.mask_token = nn.Parameter(torch.zeros(c.width)) if c.mask_token else None

    def _stem(self) -> nn.Module:
        c = self.config
        if not c.size:
            return Linear(c.input_width or c.width, c.width, bias=c.bias)
        if c.stem == "convolution":
            return ConvolutionStem(c.width, c.patch, c.stem_depth)
        return PatchStem(c.width, c.patch, bias=c.bias)

    def forward(
        self,
        x: Annotated[Image, "rows size", EACH] | Annotated[Sequence, "rows tokens input_width", EACH],
        hidden: Annotated[Mask, "rows patches", When("mask_token", True)] | None = None,
        type: int = 0,  # noqa: A002 (what blueprints write)
    ) -> Annotated[Sequence, "rows tokens width"]:
        """`[batch, 3, size, size]`, or `[batch, patches, input_width]`, to `[batch, patches (+ 1), width]`."""
        patches: Tensor = self.stem(x.pixels if isinstance(x, Image) else x.features)
        if hidden is not None:
            if self.mask_token is None:
                raise ValueError("built without a mask token, given hidden patches")
            patches = torch.where(hidden.hidden[..., None], self.mask_token.to(patches.dtype), patches)
        if self.cls is not None:
            patches = torch.cat((self.cls.to(patches.dtype).expand(patches.shape[0], 1, -1), patches), 1)
        if self.positions is not None:
            patches = patches + self.positions
        if self.types is not None:
            patches = patches + self.types[type]
        return Sequence(patches, (Part("vision", 0, patches.shape[1], self.config.cls),))

    @staticmethod
    def tables(config: Config) -> Mapping[str, ImageTable]:
        return {"positions": ImageTable(first=int(config.cls == "first"))}

    @staticmethod
    def output(config: Config, ports: Mapping[str, Any]) -> SequenceType:
        x, hidden = ports["x"], ports.get("hidden")
        _check_type(config, ports.get("type", 0))
        if isinstance(x, ImageType):
            side = config.size // config.patch if config.size else None
            grid = None if side is None else (side, side)
        else:
            grid = x.parts[0].grid if len(x.parts) == 1 else None
            if grid is None or x.parts[0].cls != "none":
                raise UserError("`x` is a picture, or the patches of one without a CLS", hints=("`x.tokens`",))
        if hidden is not None and grid is not None and hidden.count.grid not in (None, grid):
            rows, columns = hidden.count.grid
            raise UserError(
                f"`hidden` hides patches on a grid of {rows} x {columns}, and these lie on {grid[0]} x {grid[1]}",
                hints=("a masker of equal `patch`, given the picture that is cut here",),
            )
        length = None if grid is None else grid[0] * grid[1] + (config.cls == "first")
        parts = one_part("vision", length, cls=config.cls, reads=[x.reads], grid=grid)
        return SequenceType(x.rows, parts[0].reads, width=config.width, parts=parts)

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        c = config
        if known(c.size):
            return (*patch_clashes(c.size, c.patch, c.stem, c.stem_depth), *_bias_clashes(c))
        if not known(c.input_width):
            return ()
        unread = [name for name in ("patch", "stem", "stem_depth") if name in c.model_fields_set]
        message = "nothing reads `{}`: what comes in lies on a grid already"
        return tuple(Clash(message.format(name), (name,), ("leave it out",)) for name in unread)


def _bias_clashes(c: PatchEmbedding.Config) -> Iterator[Clash]:
    if c.stem == "convolution" and not c.bias:
        message = "nothing reads `bias: false` with a convolutional stem, whose last map has a bias"
        yield Clash(message, ("bias", "stem"), ("bias: true", "or stem: patch"))


def _side(c: PatchEmbedding.Config) -> int:
    """Patches a side."""
    return c.size // c.patch if c.size else round((c.tokens or 0) ** 0.5)


def _vectors(present: bool, *shape: int) -> nn.Parameter | None:
    return nn.Parameter(nn.init.normal_(torch.empty(*shape), std=STD)) if present else None


def _check_type(config: PatchEmbedding.Config, chosen: Any) -> None:
    number = getattr(chosen, "value", chosen)
    if isinstance(number, int) and number and not 0 <= number < config.types:
        hints = (f"types: {number + 1}",) if number > 0 else ()
        raise UserError(f"`type={number}` is none of {config.types} vectors, counted from 0", hints=hints)
