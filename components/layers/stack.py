"""Layers one after the other, which may look at contexts."""

from collections.abc import Hashable, Iterable
from collections.abc import Sequence as List
from functools import partial
from typing import Any, TypeAlias, cast

from jaxtyping import Bool, Float
from torch import Tensor, nn

from compose_vlp.components.layers.attention import ContextKeys
from compose_vlp.components.layers.transformer import Layer
from compose_vlp.graph.kinds import Keys
from compose_vlp.values import Sequence
from compose_vlp.values.cache import Cache, KeysValues

Context: TypeAlias = Sequence | ContextKeys
"""What a stack looks at: features, or the keys and values that were made of them for each layer."""


class Stack(nn.ModuleList):
    """`[batch, n, width]` all along.

    Of several contexts, a layer that merges looks at all; other layers take turns (ALBEF's NLVR2): layer i looks at
    context i modulo their number.
    """

    def forward(
        self,
        x: Float[Tensor, "batch n width"],
        *,
        valid: Bool[Tensor, "batch m"] | None = None,
        causal: bool = False,
        contexts: List[Context] = (),
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch n width"]:
        """`valid` is that of x; `causal` and `cache` are those of self-attention."""
        for i, layer in enumerate(self):
            look = self._look(i, cast(Layer, layer), contexts)
            if cache is not None:
                look |= {"grow": partial(cache.append, f"layer {i}"), "once": partial(cache.once, f"layer {i}")}
            x = layer(x, valid=valid, causal=causal, **look)
        if cache is not None:
            cache.advance(x.shape[1])
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

    def _look(self, i: int, layer: Layer, contexts: List[Context]) -> dict[str, Any]:
        if not contexts:
            return {}
        if layer.merges:
            return {"context": [_of(one, i) for one in contexts], "context_valid": [one.valid for one in contexts]}
        one = contexts[i % len(contexts)]
        return {"context": _of(one, i // len(contexts)), "context_valid": one.valid}


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


def _of(context: Context, layer: int) -> Tensor | KeysValues:
    return context.layers[layer] if isinstance(context, ContextKeys) else context.features
