"""`same: id` reaches the columns: through the collective that gathered them, and through the queue behind them."""

from __future__ import annotations

from pathlib import Path

from compose_vlp.api import Blueprint
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.graph.plan import Ref

PAPER = """
name: two_towers
inputs:
  image:   {type: image, size: 32}
  caption: {type: text, tokenizer: words, max_length: 8}
  id:      {type: id}
components:
  words:      {use: wordpiece, vocab_size: 100}
  vision:     {use: vit, width: 16, depth: 1, heads: 2, patch: 16}
  text:       {use: causal_decoder, width: 16, depth: 1, heads: 2, cls: last}
  similarity: {use: similarity}
  memory:     {use: feature_queue, size: 64}
  hard:       {use: hard_negative_miner}
  head:       {use: linear_head, classes: 2}
graph:
  image_embedding: normalize(vision(image).cls)
  text_embedding:  normalize(text(caption).cls)
COLUMNS
  i2t: similarity(image_embedding, all.text)
  t2i: similarity(text_embedding, all.image)
losses:
  itc: {use: contrastive, scores: [i2t, t2i], same: id}
stages:
  train: {data: pairs, length: 1 steps, losses: [itc]}
data:
  pairs: {use: scenes}
optimizer: {use: adamw, lr: 1e-3}
outputs:
  image_embedding: image_embedding
"""


def checked(tmp_path: Path, graph: str, text: str = PAPER) -> CheckedBlueprint:
    file = tmp_path / "paper.yaml"
    file.write_text(text.replace("COLUMNS", graph))
    return Blueprint.load(file).check()


def arg(blueprint: CheckedBlueprint, call: str, name: str) -> object:
    return blueprint.calls[call].arg(name)


GATHERED = PAPER.replace("all.text", "gathered(text_embedding)").replace("all.image", "gathered(image_embedding)")
GATHERED = GATHERED.replace("  memory:     {use: feature_queue, size: 64}\n", "")
GATHERED = GATHERED.replace(
    "  hard:       {use: hard_negative_miner}\n  head:       {use: linear_head, classes: 2}\n", ""
)
QUEUED = PAPER.replace("  hard:       {use: hard_negative_miner}\n  head:       {use: linear_head, classes: 2}\n", "")


def test_ids_are_gathered_where_the_columns_are(tmp_path: Path) -> None:
    blueprint = checked(tmp_path, "", GATHERED)
    assert arg(blueprint, "losses.itc", "same") == Ref("id_gathered")
    assert arg(blueprint, "id_gathered", "x") == Ref("id")
    order = [call.id for call in blueprint.plan.calls]
    assert order.index("id_gathered") < order.index("losses.itc")


def test_queue_keeps_ids_beside_the_features(tmp_path: Path) -> None:
    blueprint = checked(tmp_path, "  all: memory(image=image_embedding, text=text_embedding)", QUEUED)
    assert arg(blueprint, "losses.itc", "same") == Ref("all", ("id",))
    assert arg(blueprint, "all", "id") == Ref("id")
    order = [call.id for call in blueprint.plan.calls]
    assert order.index("id") < order.index("all")


def test_ids_that_were_written_out_stay(tmp_path: Path) -> None:
    graph = "  all: memory(image=image_embedding, text=text_embedding, id=id)"
    blueprint = checked(tmp_path, graph, QUEUED.replace("same: id", "same: all.id"))
    assert arg(blueprint, "losses.itc", "same") == Ref("all", ("id",))
    assert arg(blueprint, "all", "id") == Ref("id")


def test_columns_of_the_batch_need_no_more_than_its_ids(tmp_path: Path) -> None:
    plain = GATHERED.replace("gathered(text_embedding)", "text_embedding")
    plain = plain.replace("gathered(image_embedding)", "image_embedding")
    blueprint = checked(tmp_path, "", plain)
    assert arg(blueprint, "losses.itc", "same") == Ref("id")


def test_nothing_is_carried_that_no_one_asks_for(tmp_path: Path) -> None:
    without = QUEUED.replace(", same: id", "").replace("  id:      {type: id}\n", "")
    blueprint = checked(tmp_path, "  all: memory(image=image_embedding, text=text_embedding)", without)
    assert arg(blueprint, "all", "id") is None
