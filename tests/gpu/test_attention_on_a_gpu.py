"""Every backend of attention gives on a GPU what the formula gives in float64, forward and backward."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from compose_vlp.components.attention import eager, sdpa, xformers_backend
from compose_vlp.components.attention.attend import attend, explain, use_backend
from tests.components.attention.cases import BIASES, CASES, bias_of, mask_of, outcome, tensors
from tests.support import assert_near

BACKENDS: dict[str, Callable[..., Tensor]] = {
    "xformers": xformers_backend.attend, "sdpa": sdpa.attend, "eager": eager.attend
}  # fmt: skip
WITHIN = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""Of a tensor's norm. Kernels may multiply float32 in TF32, of 10 bits; bfloat16 has 8. A wrong mask is far off."""
WIDE = [
    pytest.param(197, 197, 12, None, False, False, id="pictures"),
    pytest.param(40, 40, 12, "ragged", False, False, id="words"),
    pytest.param(40, 40, 12, "ragged", True, False, id="words, causal"),
    pytest.param(40, 197, 12, None, False, False, id="words at pictures"),
    pytest.param(237, 237, 12, "ragged", False, True, id="words and pictures, with relative positions"),
]


def compare(inputs: list[Tensor], options: dict[str, Any], backend: str, device: str, dtype: torch.dtype) -> None:
    """A backend's output and gradients beside those of the formula in float64, all on the same rounded numbers."""

    def there(x: Tensor | None, kind: torch.dtype) -> Any:
        if x is None:
            return None
        rounded = x.detach().to(device, dtype).to(kind) if x.is_floating_point() else x.to(device)
        return rounded.requires_grad_(x.requires_grad)

    def run(function: Callable[..., Tensor], kind: torch.dtype) -> list[Tensor]:
        tensors_there = {name: there(options[name], kind) for name in ("valid", "bias")}
        given = {"dropout": 0.0, "causal": options["causal"], **tensors_there}
        return outcome(function, [there(x, kind) for x in inputs], **given)

    names = ("output", "by queries", "by keys", "by values", "by the bias")
    for name, result, formula in zip(
        names, run(BACKENDS[backend], dtype), run(eager.attend, torch.float64), strict=False
    ):
        assert result.dtype == dtype and result.isfinite().all(), name
        apart, whole = (float(x.detach().norm()) for x in (result.double() - formula, formula))
        assert apart <= WITHIN[dtype] * (whole + 0.01 * formula.numel() ** 0.5), f"{name}: {apart:.2g} of {whole:.2g}"


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("backend", ["sdpa", "eager"])
def test_the_comparison_itself_holds_on_a_processor(
    backend: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, m, mask, causal in ((5, 5, "ragged", True), (3, 7, "holes", False)):
        for bias in BIASES:
            options = {"valid": mask_of(mask, m), "causal": causal, "bias": bias_of(bias, n, m)}
            compare(tensors(n, m, 16), options, backend, "cpu", dtype)
    blind = lambda *given, **options: eager.attend(*given, **{**options, "valid": None})  # noqa: E731
    monkeypatch.setitem(BACKENDS, backend, blind)
    with pytest.raises(AssertionError, match="output"):
        compare(
            tensors(5, 5, 16), {"valid": mask_of("ragged", 5), "causal": False, "bias": None}, backend, "cpu", dtype
        )


@pytest.mark.gpu
@pytest.mark.parametrize(("n", "m", "mask", "causal"), CASES)
def test_kernels_equal_the_formula(n: int, m: int, mask: str, causal: bool) -> None:
    for backend, dtype, bias in itertools.product(BACKENDS, WITHIN, BIASES):
        options = {"valid": mask_of(mask, m), "causal": causal, "bias": bias_of(bias, n, m)}
        compare(tensors(n, m, 16), options, backend, "cuda", dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("n", "m", "heads", "mask", "causal", "biased"), WIDE)
def test_kernels_equal_the_formula_at_the_sizes_of_the_papers(
    n: int, m: int, heads: int, mask: str | None, causal: bool, biased: bool, backend: str, dtype: torch.dtype
) -> None:
    inputs = [torch.randn(4, length, heads, 64).requires_grad_() for length in (n, m, m)]
    valid = torch.arange(m) < torch.tensor([m, 8, m // 2, 1])[:, None] if mask else None
    bias = torch.randn(heads, n, m).requires_grad_() if biased else None
    compare(inputs, {"valid": valid, "causal": causal, "bias": bias}, backend, "cuda", dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_computes_in_bfloat16(backend: str) -> None:
    with use_backend(backend), torch.autocast("cuda", torch.bfloat16):
        given = [x.to("cuda") for x in tensors(3, 7, 16)]
        assert attend(*given, valid=torch.ones(4, 7, dtype=torch.bool, device="cuda")).dtype == torch.bfloat16


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_drops_and_keeps_the_mean(backend: str) -> None:
    queries, keys, values = (x.detach().to("cuda").expand(512, -1, -1, -1) for x in (y[:1] for y in tensors(3, 7, 16)))
    with use_backend(backend):
        dropped, whole = attend(queries, keys, values, dropout=0.5), attend(queries, keys, values)
    assert not torch.equal(dropped[0], dropped[1])
    assert_near(dropped.mean(0), whole[0], 0.2)


@pytest.mark.gpu
def test_auto_takes_xformers() -> None:
    heads = torch.empty(2, 5, 3, 64, device="cuda")
    assert explain(heads, heads, heads).backend == "xformers"
