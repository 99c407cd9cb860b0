"""Pooling by learned queries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from compose_vlp import registry
from compose_vlp.components.poolers.attention_pooler import AttentionPooler
from compose_vlp.graph.types import Flow, SequenceType, one_part
from compose_vlp.values import Part, Sequence

Config = AttentionPooler.Config


def pooler(**settings: Any) -> AttentionPooler:
    return AttentionPooler(Config(**{"queries": 3, "heads": 2, "input_width": 12} | settings)).eval()


def tokens(valid: torch.Tensor | None = None) -> Sequence:
    return Sequence(torch.randn(2, 5, 12), (Part("vision", 0, 5),), valid)


@pytest.mark.parametrize(("width", "comes_out"), [(None, 12), (8, 8)])
@pytest.mark.parametrize("cls", ["none", "first"])
def test_what_is_said_beforehand_is_what_comes_out(width: int | None, comes_out: int, cls: str) -> None:
    pool = pooler(width=width, cls=cls)
    out = pool(tokens())
    reads = {"caption": Flow.PAST}
    x = SequenceType(width=12, reads=reads, parts=one_part("vision", 5, reads=[reads], flow=Flow.EACH))
    output_type = registry.get(pool.kind_name).output(pool.config, {"x": x})
    assert out.features.shape == (2, 3, comes_out) == (2, output_type.sizes()["tokens"], output_type.width)
    assert [(p.name, p.length, p.cls) for p in out.parts] == [(p.name, p.length, p.cls) for p in output_type.parts]
    assert output_type.reads == {"caption": Flow.ALL}


def test_the_first_query_is_the_cls_where_it_is_said_so() -> None:
    out = pooler(cls="first")(tokens())
    assert torch.equal(out.cls.features, out.features[:, 0])
    assert torch.equal(out.tokens.features, out.features[:, 1:])


def test_it_is_one_attention_layer_between_norms() -> None:
    pool = pooler(width=8)
    x = tokens()
    reference = nn.MultiheadAttention(8, 2, kdim=12, vdim=12, batch_first=True)
    attention = pool.attention
    with torch.no_grad():
        reference.q_proj_weight.copy_(attention.q.weight)
        reference.k_proj_weight.copy_(attention.kv.weight[:8])
        reference.v_proj_weight.copy_(attention.kv.weight[8:])
        reference.in_proj_bias.copy_(torch.cat((attention.q.bias, attention.kv.bias)))
        reference.out_proj.load_state_dict(attention.out.state_dict())
    keys = nn.functional.layer_norm(x.features, (12,))
    queries = nn.functional.layer_norm(pool.queries, (8,)).expand(2, -1, -1)
    expected = nn.functional.layer_norm(reference(queries, keys, keys)[0], (8,))
    assert torch.allclose(pool(x).features, expected, atol=1e-5)


def test_padding_is_not_looked_at() -> None:
    valid = torch.tensor([[True, True, True, False, False], [True] * 5])
    x = tokens(valid)
    noisy = x.with_features(x.features.masked_fill(~valid[..., None], 1e3))
    pool = pooler()
    assert torch.allclose(pool(x).features, pool(noisy).features)


def test_heads_that_do_not_divide_the_width_that_comes_out_are_told() -> None:
    (clash,) = AttentionPooler.check(Config(queries=1, heads=8, width=20))
    assert clash.message == "heads 8 does not divide width 20"
    (clash,) = AttentionPooler.check(Config(queries=1, heads=8, input_width=20))
    assert clash.message == "heads 8 does not divide input_width 20"
    assert clash.hints[0] == "heads: 5 or 10 for input_width 20"
