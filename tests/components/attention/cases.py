"""What backends of attention are given: shapes, masks, biases; and what they give back, with all gradients."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

SHAPES = ((5, 5), (3, 7), (1, 6), (7, 3))  # queries, keys
MASKS = ("all", "ragged", "holes", "empty row")
BIASES = ("none", "float [n, m]", "float [h, n, m]", "float [b, 1, n, m]", "bool", "bool with blind query", "-inf")
CASES = [
    pytest.param(n, m, mask, causal, id=f"{n}x{m}-{mask}-{'causal' if causal else 'full'}")
    for (n, m), mask, causal in itertools.product(SHAPES, MASKS, (False, True))
]


def tensors(n: int, m: int, width: int = 8) -> list[Tensor]:
    made = torch.Generator().manual_seed(n * 100 + m)
    shapes = ((4, n, 2, width), (4, m, 2, width), (4, m, 2, width))
    return [torch.randn(s, generator=made).requires_grad_() for s in shapes]


def mask_of(kind: str, m: int) -> Tensor | None:
    if kind == "all":
        return None
    valid = torch.arange(m) < torch.tensor([m, 1, 2, m - 1])[:, None]
    if kind == "holes":
        valid[0, 0] = False
        valid[3, m // 2] = False
    if kind == "empty row":
        valid[1] = False
    return valid


def bias_of(kind: str, n: int, m: int) -> Tensor | None:
    made = torch.Generator().manual_seed(1)
    if kind == "none":
        return None
    if kind.startswith("bool"):
        seen = torch.rand(4, 1, n, m, generator=made) > 0.4
        seen[2, 0, n - 1] = "blind" not in kind
        return seen
    if kind == "-inf":
        return torch.zeros(2, n, m).masked_fill(torch.rand(2, n, m, generator=made) > 0.6, -torch.inf)
    shape = {"float [n, m]": (n, m), "float [h, n, m]": (2, n, m), "float [b, 1, n, m]": (4, 1, n, m)}[kind]
    return torch.randn(shape, generator=made).requires_grad_()


def outcome(run: Any, inputs: list[Tensor], **options: Any) -> list[Tensor]:
    """The output, and the gradient of every input, of a float bias too."""
    out = run(*inputs, **options)
    bias = options.get("bias")
    expected = [*inputs, *([bias] if bias is not None and bias.requires_grad else [])]
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out)
    return [out, *torch.autograd.grad(out, expected, direction)]
