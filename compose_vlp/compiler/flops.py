"""Counting floating-point operations from shapes alone, one forward pass on the meta device.

torch's own counter works below autograd, where each operator on the meta device is Python: 2.1 billion parameters take
it 15 seconds. This one listens above, to the few functions that multiply matrices, and knows what their backward costs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class FlopCounter(TorchFunctionMode):
    """Within it, `forward` and `backward` grow by what each matrix product costs (a multiply-add counts as two).

    The backward of a product of two factors costs one product for each factor that needs a gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forward = 0
        self.backward = 0

    @property
    def total(self) -> int:
        return self.forward + self.backward

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        stand_in = STAND_INS.get(func)
        meta = stand_in is not None and args and args[0].device.type == "meta"
        result = stand_in(*args, **kwargs) if stand_in and meta else func(*args, **kwargs)
        count = COUNTS.get(func)
        if count is not None:
            forward, backward = count(result, *args, **kwargs)
            self.forward += forward
            self.backward += backward if torch.is_grad_enabled() else 0
        return result


Count = tuple[int, int]
"""FLOPs of the forward and of the backward."""


def _product(flops: int, *factors: Tensor) -> Count:
    """The gradient of each factor costs as much as the product itself."""
    return flops, flops * sum(t.requires_grad for t in factors)


def _linear(result: Tensor, x: Tensor, weight: Tensor, *_: Any, **__: Any) -> Count:
    return _product(2 * result.numel() * weight.shape[-1], x, weight)


def _matmul(result: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> Count:
    return _product(2 * result.numel() * a.shape[-1], a, b)


def _addmm(result: Tensor, _: Tensor, a: Tensor, b: Tensor, **__: Any) -> Count:
    return _product(2 * result.numel() * a.shape[-1], a, b)


def _convolution(result: Tensor, x: Tensor, weight: Tensor, *_: Any, **__: Any) -> Count:
    return _product(2 * result.numel() * prod(weight.shape[1:]), x, weight)


def _einsum(_: Tensor, equation: str, *operands: Any) -> Count:
    factors = operands[0] if isinstance(operands[0], list | tuple) else operands
    names = equation.replace(" ", "").split("->")[0].split(",")
    sizes = {n: s for term, t in zip(names, factors, strict=True) for n, s in zip(term, t.shape, strict=True)}
    return _product(2 * prod(sizes.values()) if len(factors) == 2 else 0, *factors)


def _attention(result: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> Count:
    """Scores and their use, and the gradients of the three and of the scores. Making scores anew does not count."""
    use = 2 * result.numel() * keys.shape[-2]
    scores = use // values.shape[-1] * queries.shape[-1]
    q, k, v = (t.requires_grad for t in (queries, keys, values))
    return scores + use, scores * (q + k) + use * (v + (q or k))


COUNTS: dict[Callable[..., Any], Callable[..., Count]] = {
    F.linear: _linear,
    torch.matmul: _matmul,
    Tensor.matmul: _matmul,
    Tensor.__matmul__: _matmul,
    torch.mm: _matmul,
    torch.bmm: _matmul,
    Tensor.mm: _matmul,
    Tensor.bmm: _matmul,
    torch.addmm: _addmm,
    torch.baddbmm: _addmm,
    Tensor.addmm_: _addmm,
    torch.einsum: _einsum,
    torch.conv1d: _convolution,
    torch.conv2d: _convolution,
    torch.conv3d: _convolution,
    F.conv2d: _convolution,
    F.scaled_dot_product_attention: _attention,
}


class _Keeps(torch.autograd.Function):
    """A result of a shape, for whose gradient the inputs are kept, and itself if asked; its backward is never run."""

    @staticmethod
    def forward(ctx: Any, shape: tuple[int, ...], itself: bool, *inputs: Tensor) -> Tensor:
        result = inputs[0].new_empty(shape)
        ctx.save_for_backward(*inputs, *([result] if itself else []))
        return result


def _normed(x: Tensor, *rest: Any, **named: Any) -> Tensor:
    weights = [t for t in (*rest, *named.values()) if isinstance(t, Tensor)]
    result: Tensor = _Keeps.apply(x.shape, False, x, *weights)  # type: ignore[no-untyped-call]
    return result


def _attended(queries: Tensor, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> Tensor:
    shape = (*queries.shape[:-1], values.shape[-1])
    result: Tensor = _Keeps.apply(shape, True, queries, keys, values)  # type: ignore[no-untyped-call]
    return result


STAND_INS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.layer_norm: _normed,
    torch.layer_norm: _normed,
    F.group_norm: _normed,
    torch.group_norm: _normed,
    F.scaled_dot_product_attention: _attended,
}
"""Functions that on the meta device are Python down to every addition (and import a compiler first)."""
