"""Linear maps, and multi-head attention: what may be attended to, attention to a sequence itself, to contexts."""

from collections.abc import Callable
from collections.abc import Sequence as List
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from compose_vlp.components.attention.attend import attend
from compose_vlp.errors import nearest_numbers
from compose_vlp.graph.kinds import Clash
from compose_vlp.slots import Part
from compose_vlp.values import as_list
from compose_vlp.values.cache import Cache, KeysValues
from compose_vlp.values.chosen import Chosen, Run


class Linear(nn.Linear):
    """`[..., inputs]` to `[..., outputs]`; weights from N(0, std), biases 0.

    Without `std` it is `inputs ** -0.5`, which keeps the variance. Transformers give their branches' last maps
    `branch_std`, so that the sum over all layers stays of order one (Radford et al. 2021, CLIP's text tower).
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, std: float | None = None) -> None:
        self.std = inputs**-0.5 if std is None else std
        super().__init__(inputs, outputs, bias=bias)

    def with_bias(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The same with another bias than its own."""
        return F.linear(x, self.weight, bias)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def branch_std(width: int, depth: int) -> float:
    """Standard deviation of a residual branch's last map in a tower of `depth` layers."""
    return float((2 * depth * width) ** -0.5)


def tanh_map(inputs: int, outputs: int, std: float | None = None) -> nn.Sequential:
    """Two maps with a tanh between, as BEiT v2 puts before and behind its codes (Peng et al. 2022, 2.2)."""
    return nn.Sequential(Linear(inputs, inputs, std=std), nn.Tanh(), Linear(inputs, outputs, std=std))


@dataclass(frozen=True)
class Scope:
    """One call of a tower, as its layers see it.

    Args:
        valid: `[batch, m]`, false at positions to which none may attend (padding); None where there are no such.
        causal: a position attends to itself and to earlier ones only.
        runs: experts by name, with the first position of each run of theirs and the one behind it; none where the
            tower has no experts.
        places: `[n, axes]`, where each position stands, on a line or on a grid; one after the other where it is None.
        biases: `[layers, heads, n, m]`, added to the scores of each layer's self-attention, or what may be seen, which
            is one for all layers and heads, `[1, 1, n, m]`.
        cache: keys and values of the positions before those of this call.
        layer: the number of the layer that looks.
    """

    valid: Bool[Tensor, "batch m"] | None = None
    causal: bool = False
    runs: tuple[Run, ...] = ()
    places: Int[Tensor, "n axes"] | None = None
    biases: Shaped[Tensor, "layers heads n m"] | None = None
    cache: Cache | None = None
    layer: int = 0

    @property
    def bias(self) -> Shaped[Tensor, "heads n m"] | None:
        """Return what is added to this layer's scores."""
        return None if self.biases is None else self.biases[self.layer % len(self.biases)]

    @property
    def start(self) -> int:
        """Positions that came before those of this call."""
        return 0 if self.cache is None else self.cache.length

    def at(self, layer: int) -> "Scope":
        """The same call for one layer."""
        return replace(self, layer=layer)

    def places_of(self, positions: int, device: torch.device) -> Int[Tensor, "n axes"]:
        """Return the places of so many positions."""
        if self.places is not None:
            return self.places
        return torch.arange(self.start, self.start + positions, device=device)[:, None]

    def grown(self, keys: Tensor, values: Tensor) -> KeysValues:
        """These keys and values `[batch, n, heads, head_width]`, behind those of the positions before."""
        return (keys, values) if self.cache is None else self.cache.append(self._name, keys, values)

    def once(self, project: Callable[[], KeysValues]) -> KeysValues:
        """Keys and values of a context; of a text that is written, projected at its first word only."""
        return project() if self.cache is None else self.cache.once(self._name, project)

    @property
    def _name(self) -> str:
        return f"layer {self.layer}"


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


def picked(keys: ContextKeys | list[ContextKeys] | None, rows: Tensor | None) -> list[ContextKeys]:
    """Keys and values of one or several contexts, those that `rows` `[batch]` names where it is given."""
    return as_list(keys) if rows is None else [context.of(rows) for context in as_list(keys)]


class Positions(nn.Module):
    """A kind says by its marks what it does, and the tower does the rest.

    `table`: the tower has a vector for each position, which it adds to what comes in. `turns`: the queries and keys of
    every self-attention go through `forward` before they meet. `biases`: scores are raised or lowered by how two
    positions lie to each other.
    """

    table: ClassVar[bool] = False
    turns: ClassVar[bool] = False
    biases: ClassVar[bool] = False

    def forward(
        self,
        heads: Float[Tensor, "batch n heads head_width"],
        places: Int[Tensor, "n axes"],  # noqa: ARG002 (for kinds that turn)
    ) -> Float[Tensor, "batch n heads head_width"]:
        """Turn queries or keys by the places at which they stand."""
        return heads


def has_table(positions: Part) -> bool:
    """Is a vector for each position added to what comes in?"""
    kind: type[Positions] = positions.kind.implementation
    return kind.table


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

    def forward(
        self, x: Float[Tensor, "batch n width"], scope: Scope, chosen: Chosen | None = None
    ) -> Float[Tensor, "batch n width"]:
        """Attend within `scope`; with a cache, x holds new positions only, which attend to those before them too.

        With `chosen`, what these positions alone attend to.
        """
        if chosen is None:
            return self.mix(self.attend(self.project(x), scope))
        if not self.parts_apart:
            return self.mix(self.attend(self.project(x), scope, chosen))
        keys_values = self.project_part(x, queries=False)
        return self.mix(self.attend_at(self.project_part(chosen.of(x), queries=True), keys_values, scope, chosen))

    @property
    def parts_apart(self) -> bool:
        """May queries be mapped without keys and values? Not where places turn them, or an adapter is in the way."""
        return self.positions is None and type(self.qkv) is Linear

    def project_part(self, x: Float[Tensor, "batch n width"], *, queries: bool) -> Float[Tensor, "batch n any_width"]:
        """Queries alone `[batch, n, width]`, or keys and values `[batch, n, 2 * width]`."""
        width = len(self.qkv.weight) // 3
        bias = self._bias
        weights, biases = (
            None if parameter is None else parameter.split([width, 2 * width]) for parameter in (self.qkv.weight, bias)
        )
        assert weights is not None
        number = 0 if queries else 1
        return F.linear(x, weights[number], None if biases is None else biases[number])

    @property
    def _bias(self) -> Tensor | None:
        """Of queries, keys and values."""
        if self.q_bias is None or self.v_bias is None:
            return self.qkv.bias
        return torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))

    def project(self, x: Float[Tensor, "batch n width"]) -> Float[Tensor, "batch n three_widths"]:
        """Queries, keys and values of each position."""
        if self.q_bias is None:
            projected: Tensor = self.qkv(x)
            return projected
        return self.qkv.with_bias(x, self._bias)

    def attend(
        self, projected: Float[Tensor, "batch n three_widths"], scope: Scope, chosen: Chosen | None = None
    ) -> Float[Tensor, "batch n width"]:
        """Let each position, or each chosen one, attend to those of its scope."""
        queries, keys, values = projected.unflatten(-1, (3, self.heads, -1)).unbind(2)
        if self.positions is not None:
            places = scope.places_of(projected.shape[1], projected.device)
            queries, keys = self.positions(queries, places), self.positions(keys, places)
        keys, values = scope.grown(keys, values)
        if chosen is not None:
            return self._chosen(chosen.of(queries), keys, values, scope, chosen)
        dropout = self.dropout if self.training else 0.0
        return attend(
            queries, keys, values, valid=scope.valid, causal=scope.causal, bias=scope.bias, dropout=dropout
        ).flatten(2)

    def attend_at(
        self,
        queries: Float[Tensor, "batch k width"],
        keys_values: Float[Tensor, "batch n two_widths"],
        scope: Scope,
        chosen: Chosen,
    ) -> Float[Tensor, "batch k width"]:
        """Let chosen positions, which have these queries, attend to those of their scope."""
        keys, values = keys_values.unflatten(-1, (2, self.heads, -1)).unbind(2)
        return self._chosen(queries.unflatten(-1, (self.heads, -1)), keys, values, scope, chosen)

    def _chosen(self, queries: Tensor, keys: Tensor, values: Tensor, scope: Scope, chosen: Chosen) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        bias = chosen.bias(scope.bias, scope.causal)
        return attend(queries, keys, values, valid=scope.valid, bias=bias, dropout=dropout).flatten(2)

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


class MergedCrossAttention(nn.Module):
    """A cross-attention for each context; what they give is averaged, or made one by a map of all of them.

    BLIP's NLVR2 (Li et al. 2022, figure 5 c) has two, which average in lower layers and are mapped in upper ones.
    `[batch, n, width]` and contexts `[batch, m, context_width]` to `[batch, n, width]`.
    """

    def __init__(
        self, width: int, heads: int, context_width: int, contexts: int, *, mapped: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            CrossAttention(width, heads, context_width, dropout=dropout) for _ in range(contexts)
        )
        self.merge = Linear(contexts * width, width) if mapped else None

    def keys_values(self, context: Float[Tensor, "contexts m context_width"], which: int) -> KeysValues:
        """Keys and values of the context that stands at place `which`, each `[contexts, m, heads, head_width]`."""
        attention = self.attentions[which]
        assert isinstance(attention, CrossAttention)
        return attention.keys_values(context)

    def forward(
        self, x: Float[Tensor, "batch n width"], scope: Scope, views: List[View]
    ) -> Float[Tensor, "batch n width"]:
        """Attend to all contexts, one view each."""
        looked = [attention(x, scope, view) for attention, view in zip(self.attentions, views, strict=True)]
        if self.merge is None:
            return torch.stack(looked).mean(0)
        merged: Tensor = self.merge(torch.cat(looked, -1))
        return merged


def heads_divide_width(config: object, *, width: str = "width", heads: str = "heads") -> tuple[Clash, ...]:
    """A clash where the width cannot be split evenly over the heads."""
    whole, parts = getattr(config, width), getattr(config, heads)
    if whole is None or whole % parts == 0:
        return ()
    near = nearest_numbers(parts, [n for n in range(1, whole + 1) if whole % n == 0])
    below, above = whole // parts * parts, (whole // parts + 1) * parts
    widths = " or ".join(str(n) for n in (below, above) if n > 0)
    return (
        Clash(
            f"{heads} {parts} does not divide {width} {whole}",
            (heads, width),
            (f"{heads}: {' or '.join(map(str, near))} for {width} {whole}", f"{width}: {widths} for {heads} {parts}"),
        ),
    )
