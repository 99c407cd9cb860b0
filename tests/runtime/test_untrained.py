"""A published checkpoint is measured without being trained: a run of a blueprint without stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.data import open_source
from compose_vlp.errors import UserError
from compose_vlp.evaluation.reranking import evaluate_reranking
from compose_vlp.runtime.sources import last_data
from tests.models import TINY

SHORT = ("stages.pretrain.length=1 steps", "stages.pretrain.batch=4", "data.pairs.count=16", "data.pairs.size=16")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("untrained") / "pretrained"
    Blueprint.load("tiny/albef", overrides=[*TINY, *SHORT]).train(out=out, track=False)
    return out


def small(overrides: tuple[str, ...]) -> list[str]:
    return [override for override in overrides if "memory" not in override]


def test_weights_and_words_are_those_that_it_starts_with(pretrained: Path, tmp_path: Path) -> None:
    start = f'start=[{{from: "{pretrained}"}}]'
    run = Blueprint.load("tiny/albef", "tasks/matching", overrides=[*small(TINY), start]).train(
        out=tmp_path / "matching", track=False
    )
    from safetensors.torch import load_file

    saved = load_file(next((pretrained / "checkpoints").glob("*/model.safetensors")))
    mine = run.asker.model.components.state_dict()
    assert mine
    assert all(torch.equal(tensor, saved[f"components.{name}"]) for name, tensor in mine.items())
    words = [
        (folder / "tokenizers" / "bert" / "tokenizer.json").read_bytes() for folder in (pretrained, run.folder.path)
    ]
    assert words[0] == words[1]
    scores = evaluate_reranking(run.asker, open_source({"use": "scenes", "size": 16, "split": "unseen"}), 6).flat()
    assert all(0 <= value <= 1 for name, value in scores.items() if "recall" in name)
    with pytest.raises(UserError, match="`--data` has to say which data"):
        last_data(run.blueprint)


def test_a_task_whose_stage_is_taken_away_is_measured_as_it_starts(pretrained: Path, tmp_path: Path) -> None:
    start = f'start=[{{from: "{pretrained}"}}, {{new: ["judge.**"]}}]'
    run = Blueprint.load(
        "tiny/albef", "tiny/tasks/entailment", overrides=[*small(TINY), start, "~stages.finetune"]
    ).train(out=tmp_path / "entailment", track=False)
    assert "relation_of" in run.blueprint.outputs


def test_without_weights_or_words_there_is_nothing_to_measure(pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no stages, so there is nothing to train") as bare:
        Blueprint.load("tiny/albef", "tasks/matching").train(out=tmp_path / "bare", track=False)
    assert "start" in bare.value.problems[0].hints[0]
    start = f'start=[{{from: "{pretrained}", to: vision}}, {{new: ["**"]}}]'
    with pytest.raises(UserError, match="`bert` has no texts to learn words from"):
        Blueprint.load("tiny/albef", "tasks/matching", overrides=[*small(TINY), start]).train(
            out=tmp_path / "wordless", track=False
        )
