"""Autocast on the meta device, beside torch's own where it has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from compose_vlp.compiler.autocast import RULES, autocast_of_shapes
from compose_vlp.components.layers.precision import full_precision

LABELS = [0, 1]
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: F.linear(x, x.float()),
    "matmul": lambda x: x @ x.float().T,
    "bmm": lambda x: torch.bmm(x[None], x.T[None].float()),
    "einsum": lambda x: torch.einsum("ab,cb->ac", x, x.float()),
    "conv": lambda x: F.conv1d(x[None], x[:, :4, None].float()),
    "attention": lambda x: F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]),
    "layer norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "group norm": lambda x: F.group_norm(x, 1),
    "softmax": lambda x: F.softmax(x, -1),
    "its method": lambda x: x.softmax(-1),
    "log softmax": lambda x: x.log_softmax(-1),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "norm": lambda x: x.norm(dim=-1),
    "vector norm": lambda x: torch.linalg.vector_norm(x, dim=-1),
    "sum": lambda x: x.sum(),
    "sum of a type": lambda x: x.sum(dtype=torch.float64),
    "mean": lambda x: x.mean(),
    "cumsum": lambda x: x.cumsum(0),
    "prod": lambda x: x.prod(),
    "power": lambda x: x**2,
    "of a number": lambda x: 2**x,
    "exp": lambda x: x.exp(),
    "rsqrt": lambda x: x.rsqrt(),
    "logsumexp": lambda x: x.logsumexp(1),
    "cosine": lambda x: F.cosine_similarity(x, x),
    "interpolate": lambda x: F.interpolate(x[None], size=9),
    "cross entropy": lambda x: F.cross_entropy(x[:2], torch.tensor(LABELS, device=x.device)),
    "mse": lambda x: F.mse_loss(x, x),
    "bce": lambda x: F.binary_cross_entropy_with_logits(x, x),
    "gelu": F.gelu,
    "add": lambda x: x + x.float(),
    "cat": lambda x: torch.cat([x, x.float()]),
    "scatter": lambda x: x.float().scatter_add(0, torch.zeros(1, 2, dtype=torch.long, device=x.device), x),
    "integers": lambda x: torch.ones(3, dtype=torch.long, device=x.device).sum(),
    "doubles": lambda x: x.double() @ x.double().T,
}


@contextmanager
def on_gpu() -> Iterator[None]:
    """Autocast of a GPU over fake tensors, which need none."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        with FakeTensorMode():
            yield
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("call", "kind"), [(call, kind) for call in CALLS for kind in ("cpu", "cuda") if (call, kind) != ("scatter", "cpu")]
)
def test_results_have_the_types_that_torch_gives_them(call: str, kind: str, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16) if kind == "cpu" else on_gpu():
        expected = CALLS[call](torch.ones(4, 6, dtype=dtype, device=kind))
    with autocast_of_shapes("bf16", kind):
        given = CALLS[call](torch.ones(4, 6, dtype=dtype, device="meta"))
    assert (given.dtype, given.shape) == (expected.dtype, expected.shape)


def test_every_function_for_which_torch_has_a_rule_on_a_gpu_has_one() -> None:
    names = {
        name.removeprefix("aten::").split(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("aten::") and torch._C._dispatch_has_kernel_for_dispatch_key(name, "AutocastCUDA")
    }
    assert {"linear", "softmax", "layer_norm", "index_put"} <= names
    refused = {"binary_cross_entropy"}  # autocast raises
    ruled = {
        name: getattr(place, name) in RULES["cuda"]
        for name in names - refused
        for place in (torch, Tensor, F)
        if not name.startswith(("_", "cudnn")) and hasattr(place, name)
    }
    assert not [name for name, has in ruled.items() if not has]


def test_it_is_off_in_float32_where_it_is_turned_off_and_elsewhere() -> None:
    layer, x = nn.Linear(6, 6, device="meta"), torch.empty(4, 6, device="meta")
    with autocast_of_shapes("fp32", "cuda"):
        assert layer(x).dtype == torch.float32
    with autocast_of_shapes("bf16", "cuda"):
        assert layer(x).dtype == torch.bfloat16
        with full_precision(x.device):
            assert layer(x).dtype == torch.float32
        assert nn.Linear(6, 6)(torch.ones(4, 6)).dtype == torch.float32, "what has numbers is let be"
    assert layer(x).dtype == torch.float32


def test_a_weight_is_rounded_once_and_what_is_there_in_half_is_somebody_elses() -> None:
    layers = [nn.Linear(6, 6, bias=False, device="meta") for _ in range(2)]
    copies: list[Tensor] = []
    with autocast_of_shapes("bf16", "cuda", {id(layers[1].weight)}) as autocast:
        autocast.on_halved = copies.append
        x = torch.empty(4, 6, device="meta")
        for layer in (*layers, *layers):
            layer(x)
    assert autocast.rounded == 2 * 36
    assert [copy.shape for copy in copies] == [(6, 6)]
