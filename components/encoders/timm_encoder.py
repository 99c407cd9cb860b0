"""Any image model of timm, as a tower that gives feature tokens."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from compose_vlp.components.attention.rerouted import ThroughAttend
from compose_vlp.components.layers.options import Options, loading
from compose_vlp.errors import UserError, did_you_mean
from compose_vlp.graph.kinds import Clash
from compose_vlp.protocols import CountsLayers
from compose_vlp.registry import EACH, AsPart, Patches, Settings, component, inferred
from compose_vlp.values import Image, Part, Sequence
from compose_vlp.values.tables import ImageTable

LOADS: Final = frozenset(
    {"cache_dir", "checkpoint_path", "feature_cls", "features_only", "pretrained", "pretrained_cfg"}
    | {"pretrained_cfg_overlay", "pretrained_filter_fn", "pretrained_model_args", "pretrained_strict", "pruned"}
)
"""Arguments of timm's that download or open files, or make something else than a tower. Weights come from `start`."""


class Shape(NamedTuple):
    """What a model gives for one picture: `tokens` of `width` features, after `prefix` vectors that are no patches.

    `headless`: called as a whole it gives features; else only its `forward_features` does. `grid` is how patches lie,
    where they are a map.
    """

    width: int
    tokens: int
    cls: Literal["first", "none"]
    prefix: int
    headless: bool
    grid: tuple[int, int] | None


# In training batch norms move their statistics, as in timm, and through them rows of a batch reach each other.
@component("timm", rows="batch", state="effect", draws="noise")
class TimmEncoder(nn.Module, CountsLayers):
    """Any model of timm without its head: `[batch, 3, size, size]` to `[batch, tokens, width]`.

    Gives what timm calls the unpooled features (`num_classes=0, global_pool=""`; those before the head where a model
    always pools), maps of features row by row. A model with a CLS gives it first; its other prefix tokens (registers,
    DeiT's distillation token) are left out. Attention that timm takes through torch's fused function goes through ours.
    Weights are fresh; pretrained ones come from a file, by `start: [{from: FILE, to: COMPONENT}]`.
    """

    class Config(Settings):
        model: str = Field(description="timm's name of the architecture, such as `swin_tiny_patch4_window7_224`")
        drop_path: float = Field(0.0, ge=0, lt=1, description="probability that a row skips a block, in training")
        options: Options = Field(default={}, description="further arguments of the model in timm, by name")
        size: int = inferred(description="side of the image in pixels")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.shape = measure(config)
        self.model, _ = _create(config.model, config.drop_path, json.dumps(config.options), config.size)
        for module in self.model.modules():
            if getattr(module, "fused_attn", None) is False:  # timm keeps Swin, XCiT and Visformer off it by default
                module.fused_attn = True

    def forward(
        self, image: Annotated[Image, "rows size", EACH]
    ) -> Annotated[Sequence, "rows tokens width", AsPart("vision", cls="cls"), Patches("grid")]:
        """`[batch, 3, size, size]` to `[batch, tokens, width]`."""
        if torch.compiler.is_compiling():  # a compiler looks into torch's own function, not into a rerouted one
            x = _tokens(self.model, image.pixels, self.shape.headless)
        else:
            with ThroughAttend():
                x = _tokens(self.model, image.pixels, self.shape.headless)
        cls, prefix = self.shape.cls, self.shape.prefix
        if cls == "first" and prefix > 1:
            x = torch.cat((x[:, :1], x[:, prefix:]), 1)
        elif cls == "none" and prefix:
            x = x[:, prefix:]
        return Sequence(x, (Part("vision", 0, x.shape[1], cls),))

    def layer_numbers(self) -> Mapping[str, int | None]:
        """By the paths of parameters: the number of their layer as timm counts it, -1 below, None behind the last."""
        from timm.models import group_parameters

        levels = group_parameters(self.model, self.model.group_matcher(coarse=False), reverse=True)
        last = max(levels.values())
        behind = {  # timm counts the final norm to the last block
            path for path, level in levels.items() if level == last and not any(map(str.isdigit, path.split(".")))
        }
        return {f"model.{path}": None if path in behind else level - 1 for path, level in levels.items()}

    @staticmethod
    def check(config: Config) -> tuple[Clash, ...]:
        try:
            measure(config)
        except UserError as error:
            problem = error.problems[0]
            settings = tuple(name for name in ("model", "options", "size") if f"`{name}`" in problem.message)
            return (Clash(problem.message, settings or ("model",), problem.hints),)
        return ()

    @staticmethod
    def tables(config: Config) -> Mapping[str, ImageTable]:
        """The absolute positions of a plain vision transformer."""
        first = _before_patches(config.model, json.dumps(config.options), config.size)
        return {} if first is None else {"model.pos_embed": ImageTable(first)}

    @staticmethod
    def describe(config: Config) -> Mapping[str, Any]:
        """Width, place of the CLS, and tokens and their grid where there is a size.

        Nothing where timm has no such model, which `check` says.
        """
        try:
            shape = measure(config)
        except UserError:
            return {}
        lies = {"tokens": shape.tokens, "grid": shape.grid} if config.size else {}
        return {"width": shape.width, "cls": shape.cls, **lies}


def measure(config: TimmEncoder.Config) -> Shape:
    """The shape of a model's features, from a run without numbers; remembered.

    Raises:
        UserError: timm has no such model, or cannot make it so, or it gives no tokens.
    """
    return _measure(config.model, json.dumps(config.options), config.size)


@cache
def _measure(name: str, options: str, size: int | None) -> Shape:
    with torch.device("meta"):
        model, headless = _create(name, 0.0, options, size)
        model.eval()
        side = size or model.pretrained_cfg.get("input_size", (3, 224, 224))[-1]
        try:
            features = _features(model, torch.zeros(2, 3, side, side), headless)
            x = _flat(model, features)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(f"`model` {name} cannot take an image of `size` {side}: {_line(error)}") from error
    has_cls = getattr(model, "cls_token", None) is not None
    prefix = getattr(model, "num_prefix_tokens", int(has_cls))
    dropped = prefix - has_cls
    tokens = x.shape[1] - dropped
    grid = _grid(model, features, tokens - has_cls, side)
    return Shape(x.shape[2], tokens, "first" if has_cls else "none", prefix, headless, grid)


def _grid(model: Any, features: Tensor, patches: int, side: int) -> tuple[int, int] | None:
    """Rows and columns of a map, or of as many patches as the model cuts a picture into."""
    if features.ndim == 4:
        first = 1 if _channels_last(model) else 2
        return features.shape[first], features.shape[first + 1]
    cut = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    rows, columns = (side // size for size in cut) if isinstance(cut, tuple) and len(cut) == 2 else (0, 0)
    return (rows, columns) if rows * columns == patches else None


@cache
def _before_patches(name: str, options: str, size: int | None) -> int | None:
    """Rows of `pos_embed` `[1, rows, width]` before those of the patches; None of a model that has no such table."""
    with torch.device("meta"):
        model, _ = _create(name, 0.0, options, size)
    table, patches = getattr(model, "pos_embed", None), getattr(getattr(model, "patch_embed", None), "num_patches", 0)
    plain = isinstance(table, Tensor) and table.ndim == 3 and 0 < patches <= table.shape[1]
    return table.shape[1] - patches if plain and isinstance(table, Tensor) else None


def _create(name: str, drop_path: float, options: str, size: int | None) -> tuple[Any, bool]:
    """The model for images of `size` (None: timm's default), and whether it gives features when called as a whole."""
    import timm

    if not timm.is_model(name):
        raise UserError(f"timm has no `model` {name!r}", hints=did_you_mean(name, timm.list_models()))
    written = json.loads(options)
    for refused in loading(written, LOADS):
        hints = ["weights come from a file: `start: [{from: FILE, to: COMPONENT}]`"]
        raise UserError(f"`options` {refused!r} of timm loads or changes what a tower is made of", hints=hints)
    arguments = {"num_classes": 0, **written}
    if drop_path:
        arguments["drop_path_rate"] = drop_path
    defaults = timm.get_pretrained_cfg(name)
    fixed = defaults.input_size[-1] if defaults and defaults.fixed_input_size else None
    if size and fixed and size != fixed:
        arguments["img_size"] = size
    try:
        try:
            return timm.create_model(name, global_pool="", **arguments), True
        except (AssertionError, TypeError):  # its head always pools
            return _without_head(timm.create_model(name, **arguments)), False
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        if "img_size" in arguments and "argument 'img_size'" in str(
            error
        ):  # and not Python's "Did you mean 'img_size'?"
            raise UserError(f"`model` {name} is made for one `size` of image: {_line(error)}") from error
        asked = (" with these `options`" if options != "{}" else "") + (f" for `size` {size}" if size else "")
        raise UserError(f"timm cannot make `model` {name}{asked}: {_line(error)}") from error


def _without_head(model: Any) -> Any:
    """A model whose head would stay unused, without it."""
    if isinstance(getattr(model, "head", None), nn.Module):
        model.head = nn.Identity()
    return model


def _tokens(model: Any, pixels: Tensor, headless: bool) -> Tensor:
    """`[batch, tokens, width]` of what a model gives: tokens, or a map with its channels second or last."""
    return _flat(model, _features(model, pixels, headless))


def _features(model: Any, pixels: Tensor, headless: bool) -> Tensor:
    features = model(pixels) if headless else model.forward_features(pixels)
    if isinstance(features, Tensor) and features.ndim in (3, 4):
        return features
    raise UserError(f"this `model` ({type(model).__name__}) gives no sequence of features")


def _flat(model: Any, features: Tensor) -> Tensor:
    if features.ndim == 3:
        return features
    return features.flatten(1, 2) if _channels_last(model) else features.flatten(2).transpose(1, 2)


def _channels_last(model: Any) -> bool:
    return getattr(model, "output_fmt", "NCHW") == "NHWC"


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
