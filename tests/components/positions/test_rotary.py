"""Rotary positions: the library's numbers, scores that depend on distances alone, and texts written with a cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from compose_vlp.components.decoders.causal_decoder import CausalDecoder
from compose_vlp.components.encoders.vit import VisionTransformer
from compose_vlp.components.positions.rotary import Rotary
from compose_vlp.slots import Place
from compose_vlp.values import Image, Text
from compose_vlp.values.cache import Cache


def rotary(**settings: Any) -> Rotary:
    return Rotary(Rotary.Config(**settings), Place(32))


def heads(positions: int = 7, width: int = 8) -> torch.Tensor:
    return torch.randn(2, positions, 3, width, dtype=torch.float64)


def line(positions: int, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + positions)[:, None]


@pytest.mark.parametrize("base", [10000.0, 500.0])
def test_it_turns_as_llama_does(base: float) -> None:
    x, width = heads(), 8
    waves = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(7, dtype=torch.float64), waves).repeat(1, 2)[None]
    reference, _ = apply_rotary_pos_emb(x, x, angles.cos(), angles.sin(), unsqueeze_dim=2)
    torch.testing.assert_close(rotary(base=base)(x, line(7)), reference)


def test_scores_depend_on_distances_alone() -> None:
    queries, keys, turn = heads(), heads(), rotary()

    def scores(start: int) -> torch.Tensor:
        places = line(7, start)
        return torch.einsum("bnhd,bmhd->bhnm", turn(queries, places), turn(keys, places))

    torch.testing.assert_close(scores(0), scores(100))
    assert not torch.allclose(scores(0), torch.einsum("bnhd,bmhd->bhnm", queries, keys))


def test_on_a_grid_rows_and_columns_turn_features_of_their_own() -> None:
    x, turn = heads(4, width=8), rotary()
    rows = turn(x, torch.tensor([[3, 0]]).expand(4, 2))
    changed = (rows != x).any(0).any(0).any(0)
    assert changed.tolist() == [True, True, False, False] * 2
    torch.testing.assert_close(turn(x, torch.zeros(4, 2, dtype=torch.long)), x)


@pytest.mark.parametrize(("width", "axes", "kept"), [(34, 2, 2), (10, 2, 2), (2, 2, 2), (8, 1, 0)])
def test_features_that_fill_no_pair_stay(width: int, axes: int, kept: int) -> None:
    x = heads(3, width)
    turned = rotary()(x, torch.ones(3, axes, dtype=torch.long) * 5)
    assert int((turned == x).all(0).all(0).all(0).sum()) == kept


def test_a_picture_without_a_table_knows_its_places() -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"width": 32, "depth": 2, "heads": 4, "patch": 8, "size": 32, "positions": "rotary"}
    tower = VisionTransformer(VisionTransformer.Config(**settings)).eval()
    picture = torch.randn(1, 3, 32, 32)
    flipped = picture.unflatten(2, (4, 8)).flip(2).flatten(2, 3)
    assert tower.positions is None
    assert not torch.allclose(tower(Image(picture)).cls.features, tower(Image(flipped)).cls.features, atol=1e-4)


def test_words_one_by_one_are_the_words_at_once() -> None:
    settings: dict[str, Any] = {"width": 32, "depth": 2, "heads": 4, "vocab_size": 50, "length": 12}
    tower = CausalDecoder(CausalDecoder.Config(**settings, positions="rotary")).double().eval()
    ids = torch.randint(3, 50, (2, 9))
    whole = tower(Text(ids, torch.tensor([9, 9]), 12)).features
    cache = Cache()
    steps = [tower(Text(ids[:, i : i + 1], torch.tensor([1, 1]), 12, offset=i), cache=cache) for i in range(9)]
    torch.testing.assert_close(torch.cat([step.features for step in steps], 1), whole)


def test_a_cls_after_the_words_stands_at_the_end_of_the_frame() -> None:
    settings: dict[str, Any] = {"width": 32, "depth": 1, "heads": 4, "vocab_size": 50, "length": 12, "cls": "last"}
    tower = CausalDecoder(CausalDecoder.Config(**settings, positions="rotary")).double().eval()
    ids, lengths = torch.randint(3, 50, (2, 9)), torch.tensor([5, 4])
    long, short = (tower(Text(ids[:, :n], lengths, 12)).cls.features for n in (9, 5))
    torch.testing.assert_close(long, short)
