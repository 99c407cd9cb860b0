"""Transformers: the settings of a tower, its layers and their residual branches, and the stack of them.

`build_layer` is the one place where the towers' layers are put together from their settings.
"""

from collections.abc import Hashable, Iterable
from collections.abc import Sequence as List
from typing import Any, Final, Literal, TypeAlias, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from compose_vlp.components.layers.attention import (
    ContextKeys,
    CrossAttention,
    MergedCrossAttention,
    Positions,
    Scope,
    SelfAttention,
    View,
    has_table,
)
from compose_vlp.graph.kinds import Clash, Keys
from compose_vlp.registry import Settings
from compose_vlp.slots import Part, Place, slot
from compose_vlp.values import Sequence
from compose_vlp.values.cache import KeysValues
from compose_vlp.values.chosen import Chosen

Activation = Literal["gelu", "quick_gelu", "silu"]
Placement = Literal["pre", "post"]
Context: TypeAlias = Sequence | ContextKeys
"""What a stack looks at: features, or the keys and values that were made of them for each layer."""


DEEPEST: Final = 10_000
"""Layers at most: each is made, on the meta device at least, before anything can be told of it."""


class TowerSettings(Settings):
    """A tower's `Config` extends it, and may give its fields other defaults."""

    depth: int = Field(12, ge=0, le=DEEPEST, description="layers")
    mlp_width: int | None = Field(None, gt=0, description="hidden features of an MLP as FFN; four widths if left out")
    activation: Activation | None = Field(None, description="of the FFN; its kind's own if left out (mlp: gelu)")
    norm_eps: float = Field(1e-6, gt=0, description="added to the variance in every norm")
    ffn: Part = slot("ffn", "mlp", "the feed-forward half of every layer")
    norm: Part = slot("norm", "layer_norm", "every norm of the tower")
    positions: Part = slot("positions", "learned", "what tells the positions apart")

    def make_ffn(self, width: int, std: float | None = None, *, sub_norm: bool = False) -> nn.Module:
        """An FFN from `width` to `width` features; `std` is that of its last map's weights, before which `sub_norm`
        puts a norm (Magneto, Wang et al. 2022)."""
        inner = self.make_norm if sub_norm else None
        made: nn.Module = self.ffn.make(Place(width, self.mlp_width, self.activation, std, self.norm_eps, inner))
        return made

    def make_positions(self, width: int) -> Positions:
        """Make what tells positions apart, for one self-attention of `width` features."""
        made: Positions = self.positions.make(Place(width))
        return made

    @property
    def has_table(self) -> bool:
        """Is a vector for each position added to what comes in?"""
        return has_table(self.positions)

    @property
    def biases_scores(self) -> bool:
        """Are scores raised or lowered by how two positions lie to each other?"""
        kind: type[Positions] = self.positions.kind.implementation
        return kind.biases

    @property
    def turns(self) -> bool:
        """Do queries and keys depend on the places where they stand?"""
        kind: type[Positions] = self.positions.kind.implementation
        return kind.turns

    def make_norm(self, width: int) -> nn.Module:
        """A norm over `width` features."""
        made: nn.Module = self.norm.make(Place(width, eps=self.norm_eps))
        return made


def no_biases(config: TowerSettings) -> tuple[Clash, ...]:
    """A clash where positions are of a kind that biases scores, which a multiway tower alone can do."""
    if not config.biases_scores:
        return ()
    hints = ("`use: multiway_transformer` has them",)
    return (Clash(f"this tower gives its attention no bias for `{config.positions.use}`", ("positions",), hints),)


def activate(x: Tensor, activation: Activation) -> Tensor:
    """`gelu`: x Phi(x) with the error function; `quick_gelu`: x sigmoid(1.702 x), as in OpenAI's CLIP; `silu`: x
    sigmoid(x)."""
    if activation == "silu":
        return F.silu(x)
    return F.gelu(x) if activation == "gelu" else x * torch.sigmoid(1.702 * x)


class Residual(nn.Module):
    """`x + branch(norm(x))` (pre), or `norm(x + branch(x))` (post); further arguments go to the branch.

    Args:
        branch: `[batch, n, width]` to `[batch, n, width]`.
        norm: over the width.
        placement: where the norm stands: before the branch (Wang et al. 2019), or after the sum (Vaswani et al. 2017).
        dropout: probability that an element of the branch is dropped in training.
        drop_path: probability that a row goes without the branch in training (Huang et al. 2016).
        scale: factors `[width]` of the branch's features (LayerScale, Touvron et al. 2021).
    """

    def __init__(
        self,
        branch: nn.Module,
        norm: nn.Module,
        *,
        placement: Placement = "pre",
        dropout: float = 0.0,
        drop_path: float = 0.0,
        scale: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.norm = norm
        self.branch = branch
        self.placement: Placement = placement
        self.dropout = dropout
        self.drop_path = drop_path

    def forward(self, x: Tensor, *args: Any, chosen: Chosen | None = None) -> Tensor:
        """With `chosen`, these positions alone, `[batch, k, width]`; the branch is told which they are."""
        before = self.norm(x) if self.placement == "pre" else x
        if chosen is None:
            branch = self.branch(before, *args)
        else:
            branch, x = self.branch(before, *args, chosen), chosen.of(x)
        added = F.dropout(branch, self.dropout, self.training)
        if self.scale is not None:
            added = added * self.scale
        total = x + drop_path(added, self.drop_path if self.training else 0.0)
        normed: Tensor = total if self.placement == "pre" else self.norm(total)
        return normed


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Rows of `x` zeroed with this probability, the others scaled so that the mean stays."""
    if probability == 0.0:
        return x
    kept = 1.0 - probability
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    return x * torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(kept) / kept


class Layer(nn.Module):
    """Self-attention, then cross-attention where there is one, then the FFN; `[batch, n, width]` all along.

    `self_ffn` is a second FFN, between the two attentions (open_clip's CoCa).
    """

    def __init__(
        self,
        self_attention: Residual,
        ffn: Residual,
        cross_attention: Residual | None = None,
        self_ffn: Residual | None = None,
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.self_ffn = self_ffn
        self.cross_attention = cross_attention
        self.ffn = ffn

    @property
    def merges(self) -> bool:
        """Does its cross-attention look at several contexts at once?"""
        return self.cross_attention is not None and isinstance(self.cross_attention.branch, MergedCrossAttention)

    def keys_values(self, context: Float[Tensor, "contexts m context_width"], which: int = 0) -> KeysValues:
        """Return the keys and values of context `which` for this layer, which `forward` takes in its place.

        Raises:
            ValueError: the layer has no cross-attention.
        """
        branch = None if self.cross_attention is None else self.cross_attention.branch
        if isinstance(branch, MergedCrossAttention):
            return branch.keys_values(context, which)
        if not isinstance(branch, CrossAttention):
            raise ValueError("a layer without cross-attention takes no context")
        return branch.keys_values(context)

    def forward(
        self,
        x: Float[Tensor, "batch n width"],
        scope: Scope,
        view: View | List[View] | None = None,
        chosen: Chosen | None = None,
    ) -> Float[Tensor, "batch n width"]:
        """Attend within `scope`, and to the context of `view`; a layer that merges takes a list of views.

        With `chosen`, what becomes of these positions alone, `[batch, k, width]`.
        """
        x = self.self_attention(x, scope, chosen=chosen)
        if self.self_ffn is not None:
            x = self.self_ffn(x)
        if self.cross_attention is not None and view is not None:
            x = self.cross_attention(x, scope, view)
        total: Tensor = self.ffn(x)
        return total


def build_layer(
    settings: TowerSettings,
    width: int,
    heads: int,
    *,
    placement: Placement,
    cross_attention: nn.Module | None = None,
    ffn_between: bool = False,
    qkv_bias: bool = True,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.0,
    std: float | None = None,
) -> Layer:
    """One layer of a tower, its FFN and norms those of the settings.

    The norms stand before each branch (`pre`, as in ViT and GPT) or after each sum (`post`, as in BERT).
    `cross_attention` stands between self-attention and FFN, with a second FFN before it where `ffn_between`. `dropout`
    is of every branch, `attention_dropout` of the weights of self-attention, `drop_path` of whole rows; `std` is the
    standard deviation of the weights of each branch's last map.
    """

    def branch(module: nn.Module) -> Residual:
        norm = settings.make_norm(width)
        return Residual(module, norm, placement=placement, dropout=dropout, drop_path=drop_path)

    return Layer(
        branch(
            SelfAttention(
                width,
                heads,
                positions=settings.make_positions(width),
                bias=qkv_bias,
                dropout=attention_dropout,
                std=std,
            )
        ),
        branch(settings.make_ffn(width, std)),
        None if cross_attention is None else branch(cross_attention),
        branch(settings.make_ffn(width, std)) if ffn_between else None,
    )


class Stack(nn.ModuleList):
    """`[batch, n, width]` all along.

    Of several contexts, a layer that merges looks at all; other layers take turns (ALBEF's NLVR2): layer i looks at
    context i modulo their number.
    """

    def forward(
        self,
        x: Float[Tensor, "batch n width"],
        scope: Scope,
        contexts: List[Context] = (),
        chosen: Chosen | None = None,
    ) -> Float[Tensor, "batch n width"]:
        """Run all layers; with a cache, the positions of x count as seen afterwards.

        With `chosen`, the last layer computes these positions alone, and all others of the result are 0.
        """
        for i, layer in enumerate(self):
            view = self._view(i, cast(Layer, layer), contexts)
            if chosen is not None and i == len(self) - 1:
                x = chosen.spread(layer(x, scope.at(i), view, chosen))
            else:
                x = layer(x, scope.at(i), view)
        if scope.cache is not None:
            scope.cache.advance(x.shape[1])
        return x

    def keys_values(self, contexts: List[Sequence]) -> list[ContextKeys]:
        """The keys and values of each context, for every layer that looks at it: what `forward` takes in its place."""
        keys_by_context: list[list[KeysValues]] = [[] for _ in contexts]
        for i, layer in enumerate(cast(Iterable[Layer], self)):
            if layer.merges:
                for j, (keys, context) in enumerate(zip(keys_by_context, contexts, strict=True)):
                    keys.append(layer.keys_values(context.features, j))
            else:
                turn = i % len(contexts)
                keys_by_context[turn].append(layer.keys_values(contexts[turn].features))
        return [
            ContextKeys(tuple(keys), context.valid) for keys, context in zip(keys_by_context, contexts, strict=True)
        ]

    def _view(self, i: int, layer: Layer, contexts: List[Context]) -> View | list[View] | None:
        if not contexts:
            return None
        if layer.merges:
            return [_view_of(context, i) for context in contexts]
        return _view_of(contexts[i % len(contexts)], i // len(contexts))


def keys_of_stack(
    depth: int,
    heads: int,
    widths: tuple[int, int | None],
    *,
    layout: tuple[object, ...] = (),
    norm: Hashable = None,
) -> Keys:
    """By what a stack of `depth` layers makes keys and values of its contexts.

    `widths` are those of the stack and of the context; `layout` is how several contexts are looked at, empty for one;
    `norm` is what the norm of the context is made by, None where it is taken as it comes.
    """
    width, context_width = widths
    return Keys("cross_attention", (depth, heads, width, context_width or width, layout, norm))


def _view_of(context: Context, layer: int) -> View:
    return View(context.layers[layer] if isinstance(context, ContextKeys) else context.features, context.valid)
