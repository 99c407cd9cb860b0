"""What the entries of `data` open: sources, mixtures, further names of fields, and mistakes in them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compose_vlp.api import Blueprint
from compose_vlp.data.mixture import Mixture
from compose_vlp.errors import UserError
from compose_vlp.runtime.sources import declared_source

Small = Callable[..., Blueprint]


def test_a_mixture_names_other_entries_with_weights(small_coca: Small) -> None:
    blueprint = small_coca(
        "+data.few={use: scenes, count: 100, seed: 3}",
        "+data.all={mix: {pairs: 1, few: 3}, skip_limit: 0.2}",
        "data.pairs.count=300",
        "stages.pretrain.data=all",
    )
    source = declared_source(blueprint.check(), "all")
    assert isinstance(source, Mixture)
    assert [(part.name, part.records, part.each_epoch) for part in source.parts] == [
        ("pairs", 300, 100),
        ("few", 100, 300),
    ]
    assert source.skip_limit == 0.2
    assert source.decodes is False


def test_fields_are_renamed_and_the_limit_of_broken_records_is_the_entrys(small_coca: Small) -> None:
    blueprint = small_coca("data.pairs.fields={caption: statement, words: caption}", "data.pairs.skip_limit=0.5")
    source = declared_source(blueprint.check(), "pairs")
    record = source.record(0)
    assert callable(record["caption"])
    assert record["caption"]() == record["statement"]()
    assert isinstance(record["words"], str)
    assert source.skip_limit == 0.5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["+data.a={mix: {b: 1}}", "+data.b={mix: {pairs: 1, a: 2}}"], "data `a` is a part of itself: a > b > a"),
        (["+data.a={use: scenes, mix: {pairs: 1}}"], "data `a` has `use` and `mix`"),
        (["+data.a={mix: {pairs: 0}}"], "greater than 0"),
        (["+data.a={mix: {pairs: 1}, skip_limit: 2}"], "less than or equal to 1"),
    ],
)
def test_mistakes_are_told(small_coca: Small, changes: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        declared_source(small_coca(*changes, "stages.pretrain.data=a").check(), "a")
