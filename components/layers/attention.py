"""Multi-head attention with its projections: of a sequence to itself, and to a context."""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from compose_vlp.components.attention.attend import attend
from compose_vlp.components.layers.linear import Linear
from compose_vlp.components.layers.positions import Positions
from compose_vlp.components.layers.scope import Scope
from compose_vlp.values.cache import KeysValues


@dataclass(frozen=True)
class ContextKeys:
    """A context's keys and values for every layer that looks at it, each `[contexts, m, heads, head_width]`.

    `valid` `[contexts, m]` is false at padding, None where every place counts.
    """

    layers: tuple[KeysValues, ...]
    valid: Bool[Tensor, "contexts m"] | None = None

    def of(self, rows: Int[Tensor, " batch"]) -> "ContextKeys":
        """Those of the contexts that `rows` names, one for each row of a batch."""
        taken = tuple((keys.index_select(0, rows), values.index_select(0, rows)) for keys, values in self.layers)
        return ContextKeys(taken, None if self.valid is None else self.valid[rows])


@dataclass(frozen=True)
class View:
    """A context as one layer attends to it: its features `[batch, k, context_width]`, or their keys and values.

    `valid` `[batch, k]` is false at padding, None where every place counts.
    """

    of: Tensor | KeysValues
    valid: Bool[Tensor, "batch k"] | None = None


# FSDP2 finds the tensors of a result through it, and gathers their weights again before the backward.
pytree.register_pytree_node(
    ContextKeys,
    lambda keys: ([keys.layers, keys.valid], None),
    lambda leaves, _: ContextKeys(*leaves),
    serialized_type_name="compose_vlp.components.ContextKeys",
)


class SelfAttention(nn.Module):
    """Attention within one sequence, `[batch, n, width]` to `[batch, n, width]`.

    Queries, keys and values come from one map, in this order; `positions` turn queries and keys where they are of such
    a kind. Without `key_bias` queries and values alone have one (BEiT, Bao et al. 2022); `sub_norm` norms what was
    attended to before the last map (Magneto, Wang et al. 2022), whose weights have the standard deviation `std`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        positions: Positions | None = None,
        bias: bool = True,
        key_bias: bool = True,
        sub_norm: nn.Module | None = None,
        dropout: float = 0.0,
        std: float | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.positions = positions if positions is not None and positions.turns else None
        self.qkv = Linear(width, 3 * width, bias=bias and key_bias)
        split = bias and not key_bias
        self.q_bias = nn.Parameter(torch.zeros(width)) if split else None
        self.v_bias = nn.Parameter(torch.zeros(width)) if split else None
        self.sub_norm = sub_norm
        self.out = Linear(width, width, std=std)

    def forward(self, x: Float[Tensor, "batch n width"], scope: Scope) -> Float[Tensor, "batch n width"]:
        """Attend within `scope`; with a cache, x holds new positions only, which attend to those before them too."""
        return self.mix(self.attend(self.project(x), scope))

    def project(self, x: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n three_widths"]:
        """Queries, keys and values of each position."""
        if self.q_bias is None or self.v_bias is None:
            projected: Tensor = self.qkv(x)
            return projected
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        return F.linear(x, self.qkv.weight, bias)

    def attend(self, projected: Float[Tensor, "batch n three_widths"], scope: Scope) -> Float[Tensor, "batch n width"]:
        """Let each position attend to those of its scope."""
        queries, keys, values = projected.unflatten(-1, (3, self.heads, -1)).unbind(2)
        if self.positions is not None:
            places = scope.places_of(projected.shape[1], projected.device)
            queries, keys = self.positions(queries, places), self.positions(keys, places)
        keys, values = scope.grown(keys, values)
        dropout = self.dropout if self.training else 0.0
        return attend(
            queries, keys, values, valid=scope.valid, causal=scope.causal, bias=scope.bias, dropout=dropout
        ).flatten(2)

    def mix(self, seen: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n width"]:
        """Map what all heads attended to."""
        mixed: Tensor = self.out(seen if self.sub_norm is None else self.sub_norm(seen))
        return mixed


class CrossAttention(nn.Module):
    """Attention of a sequence to a context, `[batch, n, width]` and `[batch, m, context_width]` to `[batch, n, width]`.

    `norm` is put before the context's map (None: the context is taken as it comes).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        context_width: int,
        *,
        norm: nn.Module | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        std: float | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.context_norm = norm
        self.q = Linear(width, width, bias=bias)
        self.kv = Linear(context_width, 2 * width, bias=bias)
        self.out = Linear(width, width, std=std)

    def keys_values(self, context: Float[Tensor, "contexts m context_width"]) -> KeysValues:
        """The context's keys and values, each `[contexts, m, heads, head_width]`."""
        normed = context if self.context_norm is None else self.context_norm(context)
        keys, values = self.kv(normed).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return keys, values

    def forward(self, x: Float[Tensor, "batch n width"], scope: Scope, view: View) -> Float[Tensor, "batch n width"]:
        """Attend to a context; with a cache its keys and values are made once."""
        queries = self.q(x).unflatten(-1, (self.heads, -1))
        of = view.of
        keys, values = scope.once(partial(self.keys_values, of)) if isinstance(of, Tensor) else of
        dropout = self.dropout if self.training else 0.0
        mixed: Tensor = self.out(attend(queries, keys, values, valid=view.valid, dropout=dropout).flatten(2))
        return mixed
