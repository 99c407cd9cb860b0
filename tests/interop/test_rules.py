"""Renaming tensors, both ways."""

import pytest
import torch

from compose_vlp.errors import UserError
from compose_vlp.interop.rules import Rule, named, same, to_ours, to_theirs

RULES = [
    *named("ln", "norm"),
    same("proj", "map.weight", "transposed"),
    same("scale", "scale", "scalar"),
    Rule(("in_proj",), ("q", "kv"), shares=(1, 2)),
    Rule(("k", "v"), ("own_kv",)),
]


def state() -> dict[str, torch.Tensor]:
    return {
        "ln.weight": torch.randn(4),
        "ln.bias": torch.randn(4),
        "proj": torch.randn(4, 2),
        "scale": torch.tensor(3.0),
        "in_proj": torch.randn(9, 4),
        "k": torch.randn(3, 5),
        "v": torch.randn(3, 5),
    }


def test_tensors_are_stacked_split_turned_and_named() -> None:
    stored = state()
    ours = to_ours(RULES, stored)
    assert ours["map.weight"].shape == (2, 4)
    assert ours["scale"].shape == (1,)
    assert torch.equal(ours["q"], stored["in_proj"][:3])
    assert torch.equal(ours["kv"], stored["in_proj"][3:])
    assert torch.equal(ours["own_kv"], torch.cat((stored["k"], stored["v"])))


def test_there_and_back_is_the_same_bit_for_bit() -> None:
    stored = state()
    back = to_theirs(RULES, to_ours(RULES, stored))
    assert back.keys() == stored.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in stored.items())
    assert all(back[name].shape == tensor.shape for name, tensor in stored.items())


def test_a_missing_and_an_unexpected_tensor_are_named_together() -> None:
    stored = state()
    stored["ln.wieght"] = stored.pop("ln.weight")
    with pytest.raises(UserError, match="1 missing and 1 unexpected of 7 tensors") as caught:
        to_ours(RULES, stored)
    assert caught.value.problems[0].hints == (
        "missing: ln.weight",
        "unexpected: ln.wieght did you mean 'ln.weight'?",
    )


def test_export_wants_every_tensor_of_ours() -> None:
    ours = to_ours(RULES, state())
    del ours["q"]
    with pytest.raises(UserError, match="the model does not fit: 1 missing"):
        to_theirs(RULES, ours)
