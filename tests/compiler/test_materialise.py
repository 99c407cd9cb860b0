"""Real weights and one real step."""

from __future__ import annotations

import math

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler import materialise as module
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.materialise import choose_precision, materialise
from compose_vlp.compiler.synthetic import synthetic_batch
from compose_vlp.errors import UserError

CPU = torch.device("cpu")


def test_one_step_gives_finite_losses_and_gradients() -> None:
    actual = materialise(Blueprint.load("tiny/coca").check(), "pretrain", CPU)
    assert actual.precision == "float32"
    assert set(actual.losses) == {"contrastive", "captioning"}
    assert actual.losses["captioning"] == pytest.approx(math.log(512), rel=0.1)  # nothing is known yet
    assert actual.gradient_norm > 0
    assert actual.without_gradient == ("pool_joint",)  # only tasks read it
    assert "captioning 6" in actual.text()
    assert actual.as_json()["bytes"] == actual.bytes


def test_bf16_is_taken_where_float32_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Blueprint.load("tiny/coca").check()
    needed = materialise(checked, "pretrain", CPU).bytes
    monkeypatch.setattr(module, "free_memory", lambda _: int(0.8 * needed))
    actual = materialise(checked, "pretrain", CPU)
    assert actual.precision == "bfloat16"
    assert actual.bytes < needed
    assert math.isfinite(actual.gradient_norm)
    assert torch.get_default_dtype() == torch.float32


def test_neither_fits_is_refused_with_the_estimate() -> None:
    with pytest.raises(UserError, match=r"even bfloat16 takes 9\.00 GB .* 1\.00 GB are free"):
        choose_precision(2_000_000_000, 2_000_000_000, 1_000_000_000)


@pytest.mark.parametrize(
    ("free", "precision", "needed"), [(10_000, torch.float32, 8_400), (5_000, torch.bfloat16, 4_200)]
)
def test_precision_follows_from_what_is_free(free: int, precision: torch.dtype, needed: int) -> None:
    assert choose_precision(1_000, 400, free) == (precision, needed)


def test_loss_that_is_not_finite_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_step", lambda *_: {"captioning": torch.tensor(math.inf)})
    with pytest.raises(UserError, match="loss 'captioning' of freshly made weights is inf"):
        materialise(Blueprint.load("tiny/coca").check(), "pretrain", CPU)


@pytest.mark.parametrize("count", ["count: 3", "classes: [a, b, c]", ""])
def test_made_up_labels_are_classes_of_the_scores_that_they_meet(count: str) -> None:
    blueprint = Blueprint.load(
        "tiny/coca",
        overrides=[
            f"+inputs.shape={{type: label{', ' if count else ''}{count}}}",
            "+components.head={use: linear_head, classes: 3}",
            "+graph.scores=head(image_embedding)",
            "+losses.kind={use: cross_entropy, logits: scores, labels: shape}",
            "stages.pretrain.losses=[kind]",
        ],
    ).check()
    plan = compile_stage(blueprint, "pretrain").plan
    assert synthetic_batch(plan, 8, CPU)["shape"].values.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert materialise(blueprint, "pretrain", CPU).losses["kind"] == pytest.approx(math.log(3), rel=0.2)


def test_made_up_ids_are_all_different() -> None:
    blueprint = Blueprint.load(
        "tiny/albef", overrides=["+inputs.who={type: id, from: id}", "neg=hard(i2t, t2i, same=who)"]
    ).check()
    plan = compile_stage(blueprint, "pretrain").plan
    assert synthetic_batch(plan, 4, CPU)["who"].values.tolist() == [0, 1, 2, 3]
