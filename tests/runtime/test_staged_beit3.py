"""tiny/beit3, smaller still: its first stage reads one of three sources, the tokenizer all of them."""

from __future__ import annotations

from pathlib import Path

from compose_vlp.api import Blueprint
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.runtime.test_staged_vlmo import Told

SMALL = (
    "inputs.image.size=16", "components.patches_of={width: 16, patch: 4, stem: patch, stem_depth: 0}",
    "components.words_of.width=16", "components.backbone={depth: 1, heads: 2}", "components.spm.vocab_size=300",
    "components.hide.patch=4", "components.hide_pair.patch=4", "components.code_head.classes=9",
    "components.code_patches={width: 16, patch: 4, stem: patch}", "components.code_tower.heads=2",
    "components.codebook={size: 9, code_width: 4}", "components.decoder.heads=2", "components.decoder_map.out=8",
    "components.decoder_patches.width=16", "components.teacher={width: 8, patch: 4, heads: 2}",
    "data.*.count=24", "data.*.size=16", "stages.codes.batch=6", "stages.pretrain.batch=6",
    "stages.codes.length=2 steps", "stages.pretrain.length=2 steps",
)  # fmt: skip


def test_a_source_that_only_a_tokenizer_learns_from_stops_no_stage(tmp_path: Path) -> None:
    notes = Told()
    blueprint = Blueprint.load("tiny/beit3", overrides=[*SMALL, "stages.codes.optimizer.lr=1e-3", "params.lr=1e-3"])
    blueprint.train(out=tmp_path / "run", options=TrainOptions(seed=1, device="cpu"), track=False, listener=notes)
    assert list(notes.totals) == [(stage, step) for stage in ("codes", "pretrain") for step in range(2)]
