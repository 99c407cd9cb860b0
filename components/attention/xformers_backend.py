"""Attention through xformers 0.0.35 (CUDA alone); the only file that imports it, and only when asked to.

xformers takes ragged rows, packed into one under a block-diagonal mask, or an additive bias, never both together.
"""

import importlib.util
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakIdKeyDictionary

from compose_vlp.components.attention.masks import may_see

ALIGNMENT = 8
"""Elements: widths of heads, and the memory of a bias's rows, are multiples of it."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def refusal(queries: Tensor, values: Tensor) -> str | None:
    """Why xformers cannot take these tensors here, None where it can."""
    if queries.device.type != "cuda":
        return f"xformers has no operator for {queries.device.type} tensors"
    if importlib.util.find_spec("xformers") is None:
        return "xformers is not installed (it has wheels for Linux on x86-64 alone)"
    dtype = working_dtype(queries)
    if dtype not in DTYPES:
        return f"xformers has no operator for {dtype}"
    for tensor in (queries, values):
        if tensor.shape[-1] % ALIGNMENT:
            return f"heads of width {tensor.shape[-1]}; xformers wants multiples of {ALIGNMENT}"
    return None


def attend(
    queries: Float[Tensor, "batch n heads width"],
    keys: Float[Tensor, "batch m heads width"],
    values: Float[Tensor, "batch m heads value_width"],
    *,
    valid: Bool[Tensor, "batch m"] | None = None,
    causal: bool = False,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch n heads value_width"]:
    """The same as `eager.attend`."""
    dtype = working_dtype(queries)
    queries, keys, values = queries.to(dtype), keys.to(dtype), values.to(dtype)
    n, m = queries.shape[1], keys.shape[1]
    causal = causal and n > 1  # a single query is the last one
    if bias is None and valid is None and not (causal and n > m):
        return _operator(queries, keys, values, _causal_bias() if causal else None, dropout)
    if bias is None and valid is not None:
        layout = layout_of(valid)
        if not causal or (layout.padding_last and n == m):
            return _packed(queries, keys, values, layout, causal, dropout)
    additive, blind = additive_bias(queries, keys, valid, causal, bias)
    out = _operator(queries, keys, values, additive, dropout)
    return out.masked_fill(blind.transpose(1, 2), 0.0)


def working_dtype(queries: Tensor) -> torch.dtype:
    """The type to compute in: under autocast its own, since xformers' operator takes tensors as they are."""
    kind = queries.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else queries.dtype


# --- ragged rows ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """Which keys of a padded batch count. A row without any keeps its first one, and its output is set to zero.

    `lengths` are the keys of each row, `places` [sum of lengths] their places in the flattened [batch * keys],
    `empty` [batch] the rows without any (None where there is none).
    """

    lengths: tuple[int, ...]
    places: Int[Tensor, "kept"]
    empty: Bool[Tensor, "batch"] | None
    padding_last: bool


_LAYOUTS: MutableMapping[Tensor, tuple[int, Layout]] = WeakIdKeyDictionary()  # one mask a tower


def layout_of(valid: Bool[Tensor, "batch keys"]) -> Layout:
    """The layout of a mask; remembered while the mask lives, so that a tower's layers wait once for the device."""
    base = valid._base  # noqa: SLF001 (layers of other libraries take views of one mask)
    if base is not None and base.shape == valid.shape and base.stride() == valid.stride():
        valid = base
    version = 0 if valid.is_inference() else valid._version  # noqa: SLF001 (changed in place since?)
    known = _LAYOUTS.get(valid)
    if known is None or known[0] != version:
        known = _LAYOUTS[valid] = (version, _read_layout(valid))
    return known[1]


def _read_layout(valid: Tensor) -> Layout:
    kept = valid.detach().to("cpu", copy=True)
    empty = ~kept.any(1)
    kept[empty, 0] = True
    places = kept.flatten().nonzero().squeeze(1).to(valid.device, non_blocking=True)
    padding_last = not bool((kept[:, 1:] & ~kept[:, :-1]).any())
    none_there = empty.to(valid.device) if bool(empty.any()) else None
    return Layout(tuple(kept.sum(1).tolist()), places, none_there, padding_last)


def block_diagonal(layout: Layout, queries: int, causal: bool, device: torch.device) -> Any:
    """The mask of xformers for packed rows: `queries` each against its own keys, causal from the first on."""
    from xformers.ops.fmha.attn_bias import BlockDiagonalCausalMask, BlockDiagonalMask

    kind = BlockDiagonalCausalMask if causal else BlockDiagonalMask
    return kind.from_seqlens([queries] * len(layout.lengths), list(layout.lengths), device=device)


def _packed(queries: Tensor, keys: Tensor, values: Tensor, layout: Layout, causal: bool, dropout: float) -> Tensor:
    batch, n = queries.shape[:2]
    mask = block_diagonal(layout, n, causal, queries.device)
    packed_keys, packed_values = (x.flatten(0, 1)[layout.places].unsqueeze(0) for x in (keys, values))
    out = _operator(queries.flatten(0, 1).unsqueeze(0), packed_keys, packed_values, mask, dropout)
    out = out.squeeze(0).reshape(batch, n, *out.shape[2:])
    return out if layout.empty is None else out.masked_fill(layout.empty[:, None, None, None], 0.0)


# --- additive bias ----------------------------------------------------------------------------------------------


def additive_bias(
    queries: Tensor, keys: Tensor, valid: Tensor | None, causal: bool, bias: Tensor | None
) -> tuple[Float[Tensor, "batch heads n m"], Bool[Tensor, "..."]]:
    """All masks and the bias as one tensor to add, and the queries that see nothing ([.., .., n or 1, 1]).

    Its rows lie in memory as the kernels want them; a query that sees nothing is let see everything, without bias, so
    that no kernel divides by zero.
    """
    batch, n, heads = queries.shape[:3]
    m = keys.shape[1]
    seen = may_see(n, m, valid, causal, bias, queries.device)
    if seen is None:
        raise ValueError("nothing is masked and there is no bias: this needs no tensor")
    seen = seen[(None,) * (4 - seen.ndim)]
    added = bias if bias is not None and bias.dtype != torch.bool else seen.new_zeros((), dtype=queries.dtype)
    blind = ~seen.any(-1, keepdim=True)
    additive = added.to(queries.dtype).masked_fill(~seen, -torch.inf).masked_fill(blind, 0.0).contiguous()
    additive = functional.pad(additive, (0, -m % ALIGNMENT))[..., :m]
    return additive.expand(batch, heads, n, m), blind


def _causal_bias() -> Any:
    from xformers.ops.fmha.attn_bias import LowerTriangularFromBottomRightMask

    return LowerTriangularFromBottomRightMask()


def _operator(queries: Tensor, keys: Tensor, values: Tensor, mask: Any, dropout: float) -> Tensor:
    from xformers.ops import fmha

    out: Tensor = fmha.memory_efficient_attention(queries, keys, values, attn_bias=mask, p=dropout)
    return out
