from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compose_vlp.runtime.state.checkpoint import load, save
from compose_vlp.runtime.state.packing import pack, unpack


def round_trip(state: dict[str, Any]) -> dict[str, Any]:
    packed = pack(state)
    skeleton = json.loads(json.dumps(packed.skeleton, allow_nan=False))
    return {key: unpack(value, lambda group, name: packed.groups[group][name]) for key, value in skeleton.items()}


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.sampled_from(["$map", "$tensor", "$tuple"]), inner)
    ),
    max_leaves=12,
)


@given(nested)
@settings(max_examples=150, deadline=None)
def test_what_is_packed_comes_back_with_its_types(value: Any) -> None:
    actual = round_trip({"part": value})["part"]
    assert repr(actual) == repr(value)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.0, 0.1 + 0.2, 5e-324])
def test_every_float_comes_back_bit_for_bit(number: float) -> None:
    actual = round_trip({"part": number})["part"]
    assert np.float64(actual).tobytes() == np.float64(number).tobytes() or math.isnan(number) == math.isnan(actual)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
def test_tensors_of_every_type_come_back(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    scalar = torch.tensor(1).to(dtype)
    actual = round_trip({"part": [tensor, scalar, torch.zeros(0, 3, dtype=dtype)]})["part"]
    assert torch.equal(actual[0], tensor)
    assert actual[0].dtype == dtype
    assert actual[1].shape == ()
    assert actual[2].shape == (0, 3)


def test_tied_tensors_are_stored_once_and_come_back_tied() -> None:
    weight = torch.nn.Parameter(torch.randn(3, 2))
    packed = pack({"model": {"embedding": weight.data, "head": weight.data, "other": weight.data.clone()}})
    assert list(packed.groups["model"]) == ["embedding", "other"]
    actual = round_trip({"model": {"embedding": weight.data, "head": weight.data}})["model"]
    assert actual["embedding"] is actual["head"]


def test_views_of_one_storage_are_not_taken_for_ties() -> None:
    base = torch.arange(12.0).view(3, 4)
    parts = {
        "whole": base,
        "row": base[0],
        "start": base[:2],
        "transposed": base.t(),
        "expanded": base[:1].expand(3, 4),
    }
    packed = pack({"model": parts})
    assert len({tensor.untyped_storage().data_ptr() for tensor in packed.groups["model"].values()}) == len(parts)
    actual = round_trip({"model": parts})["model"]
    for name, tensor in parts.items():
        assert torch.equal(actual[name], tensor), name


def test_two_paths_that_spell_the_same_name_keep_their_own_tensors() -> None:
    state = {"model": {"a.b": {"c": torch.tensor(1)}, "a": {"b.c": torch.tensor(2), "b": {"c": torch.tensor(3)}}}}
    actual = round_trip(state)["model"]
    assert (actual["a.b"]["c"].item(), actual["a"]["b.c"].item(), actual["a"]["b"]["c"].item()) == (1, 2, 3)


def test_arrays_come_back_as_arrays() -> None:
    actual = round_trip({"part": {"a": np.arange(3, dtype=np.uint32), "b": np.float32(0.5), "c": np.int64(7)}})["part"]
    assert actual["a"].dtype == np.uint32
    assert actual["a"].tolist() == [0, 1, 2]
    assert (actual["b"], actual["c"]) == (0.5, 7)


def test_an_optimizer_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    def make() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, betas=(0.9, 0.95))

    def step(layer: torch.nn.Linear, optimizer: torch.optim.AdamW, seed: int) -> None:
        optimizer.zero_grad()
        layer(torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
        optimizer.step()

    whole, of_whole = make()
    step(whole, of_whole, 1)
    save(tmp_path / "one", {"model": whole.state_dict(), "optimizer": of_whole.state_dict()}, step=1)
    saved = load(tmp_path / "one")
    other, of_other = make()
    other.load_state_dict(saved["model"])
    of_other.load_state_dict(saved["optimizer"])
    step(whole, of_whole, 2)
    step(other, of_other, 2)
    assert torch.equal(whole.weight, other.weight)
    assert torch.equal(of_whole.state[whole.weight]["exp_avg_sq"], of_other.state[other.weight]["exp_avg_sq"])


def test_what_a_checkpoint_cannot_hold_is_named_with_its_place() -> None:
    with pytest.raises(TypeError, match=r"the set at optimizer\.state\.0\.seen"):
        pack({"optimizer": {"state": {0: {"seen": {1, 2}}}}})
    with pytest.raises(TypeError, match=r"model\.weight is on the meta device"):
        pack({"model": {"weight": torch.empty(2, device="meta")}})
    with pytest.raises(TypeError, match=r"model\.weight"):
        pack({"model": {"weight": torch.eye(2).to_sparse()}})
    with pytest.raises(TypeError, match=r"ndarray at data\.names"):
        pack({"data": {"names": np.array([object()])}})


@pytest.mark.parametrize("key", ["", "a/b", "../model", "a b"])
def test_a_top_level_key_that_cannot_be_a_file_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="name of a file"):
        pack({key: 1})
