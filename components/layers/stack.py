"""Layers one after the other, which may look at contexts."""

from collections.abc import Hashable, Iterable
from collections.abc import Sequence as List
from typing import TypeAlias, cast

from jaxtyping import Float
from torch import Tensor, nn

from compose_vlp.components.layers.attention import ContextKeys, View
from compose_vlp.components.layers.scope import Scope
from compose_vlp.components.layers.transformer import Layer
from compose_vlp.graph.kinds import Keys
from compose_vlp.values import Sequence
from compose_vlp.values.cache import KeysValues

Context: TypeAlias = Sequence | ContextKeys
"""What a stack looks at: features, or the keys and values that were made of them for each layer."""


class Stack(nn.ModuleList):
    """`[batch, n, width]` all along.

    Of several contexts, a layer that merges looks at all; other layers take turns (ALBEF's NLVR2): layer i looks at
    context i modulo their number.
    """

    def forward(
        self, x: Float[Tensor, "batch n width"], scope: Scope, contexts: List[Context] = ()
    ) -> Float[Tensor, "batch n width"]:
        """Run all layers; with a cache, the positions of x count as seen afterwards."""
        for i, layer in enumerate(self):
            x = layer(x, scope.at(i), self._view(i, cast(Layer, layer), contexts))
        if scope.cache is not None:
            scope.cache.advance(x.shape[1])
        return x

    def keys_values(self, contexts: List[Sequence]) -> list[ContextKeys]:
        """The keys and values of each context, for every layer that looks at it: what `forward` takes in its place."""
        found: list[list[KeysValues]] = [[] for _ in contexts]
        for i, layer in enumerate(cast(Iterable[Layer], self)):
            if layer.merges:
                for j, (keys, context) in enumerate(zip(found, contexts, strict=True)):
                    keys.append(layer.keys_values(context.features, j))
            else:
                turn = i % len(contexts)
                found[turn].append(layer.keys_values(contexts[turn].features))
        return [ContextKeys(tuple(keys), one.valid) for keys, one in zip(found, contexts, strict=True)]

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
