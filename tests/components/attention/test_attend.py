"""Every backend of attention computes what the readable one does, forward and backward."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from compose_vlp.components.attention import eager, sdpa, xformers_backend
from compose_vlp.components.attention.attend import VARIABLE, attend, explain, use_backend
from compose_vlp.components.attention.masks import may_see
from compose_vlp.errors import UserError
from tests.components.attention.cases import BIASES, CASES, bias_of, mask_of, outcome, tensors


def naive(queries: Tensor, keys: Tensor, values: Tensor, valid: Any, causal: bool, bias: Any) -> Tensor:
    """Query by query, key by key, in float64 and plain Python."""
    out = torch.zeros(*queries.shape[:3], values.shape[-1], dtype=torch.float64)
    (b, n, h), m = queries.shape[:3], keys.shape[1]
    q, k, v = (x.detach().double() for x in (queries, keys, values))
    full = None if bias is None else bias.detach().expand(b, h, n, m)
    for row, i, head in itertools.product(range(b), range(n), range(h)):
        scores = {}
        for j in range(m):
            hidden = (valid is not None and not valid[row, j]) or (causal and j > i + m - n)
            if full is not None and full.dtype == torch.bool:
                hidden = hidden or not full[row, head, i, j]
            if not hidden:
                extra = 0 if full is None or full.dtype == torch.bool else full[row, head, i, j].double()
                scores[j] = torch.exp(q[row, i, head] @ k[row, j, head] / q.shape[-1] ** 0.5 + extra)
        total = sum(scores.values())
        for j, score in scores.items():
            if total > 0:
                out[row, i, head] += score / total * v[row, j, head]
    return out


def about(bias: str) -> Callable[[str], str]:
    return lambda notes: f"bias {bias}: {notes}"


def agree(run: Any, n: int, m: int, mask: str, causal: bool) -> None:
    """A backend and eager give the same, forward and backward, with every kind of bias."""

    for bias in BIASES:
        inputs = tensors(n, m)
        options = {"valid": mask_of(mask, m), "causal": causal, "bias": bias_of(bias, n, m)}
        expected = outcome(eager.attend, inputs, **options)
        for got, eagers in zip(outcome(run, inputs, **options), expected, strict=True):
            torch.testing.assert_close(got, eagers, atol=1e-5, rtol=0, msg=about(bias))


@pytest.mark.parametrize(("n", "m", "mask", "causal"), CASES)
def test_eager_is_the_definition(n: int, m: int, mask: str, causal: bool) -> None:
    for bias in BIASES:
        inputs, valid, added = tensors(n, m), mask_of(mask, m), bias_of(bias, n, m)
        out = eager.attend(*inputs, valid=valid, causal=causal, bias=added)
        expected = naive(*inputs, valid, causal, added)
        torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=0, msg=about(bias))


@pytest.mark.parametrize(("n", "m", "mask", "causal"), CASES)
def test_sdpa_equals_eager(n: int, m: int, mask: str, causal: bool) -> None:
    agree(sdpa.attend, n, m, mask, causal)


# --- xformers: its kernels need CUDA (tests/gpu); what we hand to them is checked everywhere -------------------------


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """xformers' operator as its documentation defines it, on its own masks made dense; notes the masks it was given."""
    fmha = pytest.importorskip("xformers.ops.fmha", reason="xformers is not installed here")
    given: list[Any] = []

    def operator(query: Tensor, key: Tensor, value: Tensor, attn_bias: Any = None, p: float = 0.0) -> Tensor:
        fmha.Inputs(query, key, value, attn_bias, p).validate_inputs()
        given.append(attn_bias)
        shape = (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
        dense = attn_bias
        if attn_bias is not None and not isinstance(attn_bias, Tensor):
            dense = attn_bias.materialize(shape)
        scores = torch.einsum("bnhd,bmhd->bhnm", query, key) / query.shape[-1] ** 0.5
        scores = scores if dense is None else scores + dense
        return torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), value)

    monkeypatch.setattr(fmha, "memory_efficient_attention", operator)
    yield given
    assert given, "the operator was not called"


@pytest.mark.parametrize(("n", "m", "mask", "causal"), CASES)
def test_what_xformers_is_given_means_what_eager_does(
    n: int, m: int, mask: str, causal: bool, emulated: list[Any]
) -> None:
    agree(xformers_backend.attend, n, m, mask, causal)
    assert len(emulated) == len(BIASES)


@pytest.mark.parametrize(
    ("n", "m", "mask", "causal", "bias", "kind"),
    [
        (5, 5, "all", False, "none", "NoneType"),
        (5, 5, "ragged", False, "none", "BlockDiagonalMask"),
        (3, 7, "ragged", False, "none", "BlockDiagonalMask"),
        (5, 5, "holes", False, "none", "BlockDiagonalMask"),
        (5, 5, "ragged", True, "none", "BlockDiagonalCausalMask"),
        (3, 7, "all", True, "none", "LowerTriangularFromBottomRightMask"),
        (1, 6, "ragged", True, "none", "BlockDiagonalMask"),
        # Where xformers has no mask of its own for it, one tensor is added.
        (5, 5, "holes", True, "none", "Tensor"),
        (3, 7, "ragged", True, "none", "Tensor"),
        (7, 3, "all", True, "none", "Tensor"),
        (5, 5, "all", False, "float [h, n, m]", "Tensor"),
        (5, 5, "ragged", False, "bool", "Tensor"),
    ],
)
def test_xformers_gets_the_mask_that_says_it_with_least(
    n: int, m: int, mask: str, causal: bool, bias: str, kind: str, emulated: list[Any]
) -> None:
    valid, added = mask_of(mask, m), bias_of(bias, n, m)
    xformers_backend.attend(*tensors(n, m), valid=valid, causal=causal, bias=added)
    assert [type(given).__name__ for given in emulated] == [kind]


@pytest.mark.parametrize("causal", [False, True])
def test_a_block_diagonal_mask_shows_what_eager_sees(causal: bool) -> None:
    pytest.importorskip("xformers.ops.fmha", reason="xformers is not installed here")
    valid = mask_of("ragged", 5)
    assert valid is not None
    layout = xformers_backend.layout_of(valid)
    dense = xformers_backend.block_diagonal(layout, 5, causal, valid.device).materialize((20, len(layout.places)))
    expected = torch.zeros(20, 20, dtype=torch.bool)
    seen = may_see(5, 5, valid, causal, None, valid.device)
    assert seen is not None
    for row in range(4):
        expected[row * 5 : row * 5 + 5, row * 5 : row * 5 + 5] = seen.expand(4, 1, 5, 5)[row, 0]
    assert torch.equal(dense == 0, expected[:, layout.places])


@pytest.mark.parametrize("m", [5, 8])
@pytest.mark.parametrize("shape", ["n h m", "n m", "m"])
def test_a_bias_for_xformers_lies_in_memory_as_its_kernels_want(m: int, shape: str) -> None:
    queries, keys, _ = tensors(3, m)
    bias = {"n h m": torch.randn(3, m, 2).permute(2, 0, 1), "n m": torch.randn(m, 3).T, "m": torch.randn(m)}[shape]
    additive, _ = xformers_backend.additive_bias(queries, keys, None, False, bias)
    assert additive.shape == (4, 2, 3, m)
    assert all(stride % 8 == 0 for stride in additive.stride()[:-1])
    assert additive.stride(-1) == 1


def test_the_layout_of_a_mask_is_read_once_and_again_after_a_change() -> None:
    valid = torch.tensor([[True, True], [True, False]])
    first = xformers_backend.layout_of(valid)
    assert xformers_backend.layout_of(valid) is first
    assert first.lengths == (2, 1)
    assert xformers_backend.layout_of(valid[:, None, None, :][:, 0, 0]) is first, "a view of the whole mask"
    assert xformers_backend.layout_of(valid[:, 1:]).lengths == (1, 1), "a view of a part of it"
    valid[0, 1] = False
    assert xformers_backend.layout_of(valid).lengths == (1, 1)


# --- what the callers rely on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_a_cache_step_equals_the_last_row_of_the_whole(backend: str) -> None:
    queries, keys, values = tensors(6, 6)
    with use_backend(backend):
        whole = attend(queries, keys, values, causal=True)
        for start in (1, 4, 5):
            step = attend(queries[:, start:], keys, values, causal=True)
            torch.testing.assert_close(step, whole[:, start:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_dropout_drops_and_keeps_the_mean(backend: str) -> None:
    queries, keys, values = (x.detach().expand(512, -1, -1, -1) for x in (y[:1] for y in tensors(3, 7)))
    torch.manual_seed(0)
    with use_backend(backend):
        dropped = attend(queries, keys, values, dropout=0.5)
        assert not torch.equal(dropped[0], dropped[1])
        torch.testing.assert_close(dropped.mean(0), attend(queries, keys, values)[0], atol=0.15, rtol=0)


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_autocast_computes_in_bfloat16(backend: str) -> None:
    with use_backend(backend), torch.autocast("cpu", torch.bfloat16):
        inputs = [tensor.float() for tensor in tensors(3, 7)]
        out = attend(*inputs, bias=torch.randn(3, 7).float(), valid=mask_of("ragged", 7))
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_it_runs_on_the_meta_device(backend: str) -> None:
    inputs = [x.to("meta") for x in tensors(3, 7)]
    with use_backend(backend):
        out = attend(*inputs, causal=True, valid=torch.ones(4, 7, dtype=torch.bool, device="meta"))
    assert out.shape == (4, 3, 2, 8)


def test_auto_takes_sdpa_on_a_cpu_and_says_why() -> None:
    choice = explain(*tensors(3, 7))
    assert choice.backend == "sdpa"
    assert "cpu" in choice.reason


def test_the_backend_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "eager")
    assert explain(*tensors(3, 7)) == ("eager", f"asked for by {VARIABLE}")
    with use_backend("sdpa"):
        assert explain(*tensors(3, 7)) == ("sdpa", "asked for by use_backend")
        with use_backend("auto"):
            assert explain(*tensors(3, 7)).reason.startswith("xformers has no operator")
    assert explain(*tensors(3, 7)).backend == "eager"


def test_torch_compile_sees_a_layer_whole() -> None:
    inputs = tensors(5, 5)
    run = torch.compile(lambda q, k, v: attend(q, k, v, causal=True), backend="eager", fullgraph=True)
    torch.testing.assert_close(run(*inputs), attend(*inputs, causal=True))


def test_an_unknown_backend_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'spda'") as caught, use_backend("spda"):
        pass
    assert "'sdpa'" in caught.value.problems[0].hints[0]
    monkeypatch.setenv(VARIABLE, "flash")
    with pytest.raises(UserError, match=f"{VARIABLE}: no attention backend is called 'flash'"):
        attend(*tensors(3, 7))


def test_xformers_asked_for_on_a_cpu_is_refused_with_the_reason() -> None:
    with use_backend("xformers"), pytest.raises(UserError, match="no operator for cpu tensors"):
        attend(*tensors(3, 7))


@pytest.mark.parametrize(
    ("width", "dtype", "reason"),
    [(8, torch.float64, "float64"), (12, torch.float32, "width 12"), (8, torch.float32, None)],
)
def test_xformers_says_which_tensors_it_cannot_take(width: int, dtype: torch.dtype, reason: str | None) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    pytest.importorskip("xformers", reason="xformers is not installed here")
    with FakeTensorMode():
        queries = torch.empty(1, 2, 1, width, dtype=dtype, device="cuda")
        refusal = xformers_backend.refusal(queries, queries)
    assert (reason in (refusal or "")) if reason else refusal is None
