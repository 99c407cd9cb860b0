"""A batch in pieces is the whole batch: the same losses, gradients and weights, in less memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compose_vlp.api import Blueprint
from compose_vlp.compiler.accumulation import Pieces, compile_pieces
from compose_vlp.compiler.compile import Compiled, compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.synthetic import synthetic_batch
from compose_vlp.errors import UserError
from compose_vlp.runtime.device import autocast
from compose_vlp.runtime.processes import ALONE
from compose_vlp.runtime.sources import open_tokenizers
from compose_vlp.runtime.training.engine import Engine
from compose_vlp.runtime.training.gradients import InOneGo, InPieces, Losses
from compose_vlp.values import Scalar, Text, rows_of
from tests.support import assert_near, in_float64, runs_in_float64

Load = Callable[..., Blueprint]
WEIGHTS = {"contrastive": 1.0, "captioning": 2.0}
FLOAT32 = autocast(torch.device("cpu"), "fp32")
ROWS = 6


def prepare(blueprint: Blueprint) -> tuple[Model, Compiled, Pieces, dict[str, Any]]:
    checked = blueprint.check()
    compiled = compile_stage(checked, "pretrain")
    batch = synthetic_batch(compiled.plan, ROWS, "cpu")
    lengths = torch.tensor([12, 3, 7, 9, 4, 5])
    caption = batch["caption"]
    assert isinstance(caption, Text)
    batch["caption"] = Text(caption.ids, lengths[:ROWS].clamp(max=caption.ids.shape[1]), caption.frame, caption.pad)
    return build(checked, seed=3).train(), compiled, compile_pieces(checked, "pretrain"), batch


def gradients_of(model: Model, compute: Callable[..., Losses], batch: Any) -> tuple[Losses, dict[str, torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(7)
    losses = compute(batch, WEIGHTS, Step())
    return losses, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("count", [2, 3, 6])
def test_pieces_give_the_losses_and_gradients_of_the_whole(small_coca: Load, count: int) -> None:
    model, compiled, pieces, batch = prepare(small_coca())
    model, batch = model.double(), in_float64(batch)
    whole, expected = gradients_of(model, InOneGo(Engine(model), compiled.run, ALONE, FLOAT32), batch)
    cut, actual = gradients_of(model, InPieces(Engine(model), pieces, count, ALONE, FLOAT32), batch)
    assert cut.total == pytest.approx(whole.total, rel=1e-6)
    assert cut.values == pytest.approx(dict(whole.values), rel=1e-6)
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.dist(actual[name], gradient) <= 1e-6 * gradient.norm() + 1e-9, name


SMALL_BEIT3 = (
    "inputs.image={type: image, size: 16}",
    "inputs.caption.max_length=12",
    "components.spm={use: ids, vocab_size: 60, begin: '0', pad: '1', end: '2', mask: '3'}",
    "components.patches_of.width=16",
    "components.patches_of.patch=8",
    "components.words_of.width=16",
    "components.words_of.length=12",
    "components.backbone={depth: 2, heads: 2, mlp_width: 24, drop_path: 0}",
    "components.written_masker={probability: 1.0, mask: 1.0}",
    "losses.lm.drop_worst=0.4",
    "outputs.caption.max_length=12",
)


def test_the_worst_words_of_the_whole_batch_are_left_out_in_pieces_too() -> None:
    checked = Blueprint.load("beit3_base", "tasks/masked_captioning", overrides=list(SMALL_BEIT3)).check()
    compiled, pieces = compile_stage(checked, "finetune"), compile_pieces(checked, "finetune")
    model = build(checked, seed=3).train().double()
    model.tokenizers = open_tokenizers(checked)
    batch = in_float64(synthetic_batch(compiled.plan, ROWS, "cpu"))
    weights = {"lm": 1.0}
    actual = []
    for compute in (
        InOneGo(Engine(model), compiled.run, ALONE, FLOAT32),
        InPieces(Engine(model), pieces, 3, ALONE, FLOAT32),
    ):
        model.zero_grad()
        total = compute(batch, weights, Step()).total
        actual.append((total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    (whole, expected), (cut, slopes) = actual
    assert cut == pytest.approx(whole, rel=1e-9)
    assert torch.dist(slopes, expected) <= 1e-7 * expected.norm()


def test_what_mixes_rows_runs_once_and_the_rest_piece_by_piece(small_coca: Load) -> None:
    model, _, pieces, batch = prepare(small_coca())
    seen: dict[str, list[tuple[int, bool]]] = {}

    def watch(name: str) -> Callable[..., None]:
        return lambda _module, _given, result: seen.setdefault(name, []).append(
            (rows_of(result), torch.is_grad_enabled())
        )

    for name in ("vision", "multimodal", "similarity"):
        getattr(model.student, name).register_forward_hook(watch(name))
    gradients_of(model, InPieces(Engine(model), pieces, 3, ALONE, FLOAT32), batch)
    assert seen["vision"] == [(2, False)] * 3 + [(2, True)] * 3
    assert seen["similarity"] == [(6, True)] * 2, "two directions, each over the whole batch"
    assert seen["multimodal"] == [(2, True)] * 3, "what only the captions need is computed once"


def test_with_noise_both_passes_over_a_piece_draw_alike(small_coca: Load) -> None:
    model, _, pieces, batch = prepare(
        small_coca("components.unimodal.dropout=0.3", "components.multimodal.dropout=0.3")
    )
    handed: list[torch.Tensor] = []
    for name in ("text_proj", "image_proj"):
        getattr(model.student, name).register_forward_hook(lambda _m, _g, result: handed.append(result.features))
    gradients_of(model, InPieces(Engine(model), pieces, 2, ALONE, FLOAT32), batch)
    first, again = handed[: len(handed) // 2], handed[len(handed) // 2 :]
    assert all(not features.requires_grad for features in first) and all(features.requires_grad for features in again)
    for before, after in zip(first, again, strict=True):
        assert_near(before, after)
    assert not torch.equal(first[0], first[2]), "each piece has masks of its own"


def test_generators_go_on_as_if_one_number_had_been_drawn(small_coca: Load) -> None:
    model, _, pieces, batch = prepare(small_coca("components.unimodal.dropout=0.3"))
    gradients_of(model, InPieces(Engine(model), pieces, 2, ALONE, FLOAT32), batch)
    after = torch.rand(2)
    torch.manual_seed(7)
    torch.randint(2**62, ())
    assert torch.equal(after, torch.rand(2))


def test_without_a_loss_that_mixes_rows_nothing_runs_twice(small_coca: Load) -> None:
    model, _, pieces, batch = prepare(small_coca("~losses.contrastive"))
    assert pieces.mixing is None and not pieces.kept
    calls: list[int] = []
    model.student.vision.register_forward_hook(lambda *_: calls.append(1))
    losses, _ = gradients_of(model, InPieces(Engine(model), pieces, 2, ALONE, FLOAT32), batch)
    assert len(calls) == 2 and set(losses.values) == {"captioning"}


def test_a_loss_that_miscounts_its_terms_is_found(small_coca: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, pieces, batch = prepare(small_coca())
    plain = model.losses_by_name.captioning.forward
    miscounting = lambda logits: Scalar(plain(logits).value, count=torch.tensor(1))  # noqa: E731
    monkeypatch.setattr(model.losses_by_name.captioning, "forward", miscounting)
    with pytest.raises(TypeError, match="the loss captioning counts 2 terms, and `selects` names 34"):
        gradients_of(model, InPieces(Engine(model), pieces, 2, ALONE, FLOAT32), batch)


def test_a_stage_that_accumulates_learns_what_it_learns_otherwise(small_coca: Load, tmp_path: Path) -> None:
    from tests.runtime.test_training import STEPS, Watch, train

    whole, cut = Watch(), Watch()
    # a small eps makes steps out of the rounding of gradients that are 0 (biases of keys)
    steps = ("stages.pretrain.length=3 steps", "optimizer.eps=1e-4", *STEPS[1:])
    with runs_in_float64():
        at_once = train(small_coca(*steps), tmp_path / "whole", whole)
        other = train(small_coca(*steps, "stages.pretrain.accumulate=3"), tmp_path / "cut", cut)
    assert cut.totals == pytest.approx(whole.totals, rel=1e-6)
    for name, tensor in at_once.asker.model.state_dict().items():
        assert_near(other.asker.model.state_dict()[name], tensor, 1e-6, floor=1e-7, what=name)


def test_a_queue_a_teacher_a_miner_and_masked_words_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """ALBEF, all of whose words are hidden and whose hardest negatives are taken, so that nothing is drawn."""
    small = [
        "inputs.image.size=16",
        "inputs.caption.max_length=8",
        "components.vision.width=32",
        "components.memory.size=12",
        f"stages.pretrain.batch={ROWS}",
    ]
    small += [
        "components.text.width=32",
        "components.*.mlp_width=48",
        "components.*_proj.out=24",
        "components.bert.vocab_size=60",
    ]
    small += ["components.masker={use: mlm_masker, probability: 1, mask: 1}", "params.alpha=0.4"]
    checked = Blueprint.load("tiny/albef", overrides=small).check()
    compiled = compile_stage(checked, "pretrain")
    model = build(checked, seed=3).train()
    model.tokenizers = {"bert": SimpleNamespace(mask_id=4, special={"[CLS]": 2}, vocab_size=60, highest_id=59)}
    model.start_teachers(["momentum"])
    model, batch = model.double(), in_float64(synthetic_batch(compiled.plan, ROWS, "cpu"))
    batch["caption"] = replace(batch["caption"], lengths=torch.tensor([8, 3, 7, 5, 4, 5]))
    miner = "compose_vlp.components.miners.hard_negative_miner.draw_columns"
    monkeypatch.setattr(miner, lambda weights, count: weights.topk(count, 1).indices)
    weights = {"itc": 1.0, "itm": 1.0, "mlm": 1.0}
    step = Step(checked.constants_and_starts())
    actual = []
    queues = []
    for way in (
        InOneGo(Engine(model), compiled.run, ALONE, FLOAT32),
        InPieces(Engine(model), compile_pieces(checked, "pretrain"), 3, ALONE, FLOAT32),
    ):
        model.zero_grad()
        losses = way(batch, weights, step)
        actual.append((losses.values, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
        queues.append([embedding.features for embedding in model.student.memory.pending.values()])
    (whole, expected), (cut, gradients) = actual
    assert cut == pytest.approx(dict(whole), rel=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.dist(gradients[name], gradient) <= 1e-6 * gradient.norm() + 1e-9, name
    for mine, other in zip(*queues, strict=True):
        assert_near(mine, other)


def test_a_batch_that_does_not_fall_into_pieces_is_refused(small_coca: Load, tmp_path: Path) -> None:
    from tests.runtime.test_training import STEPS, Watch, train

    with pytest.raises(UserError, match="a batch of 6 does not fall into 4 pieces of one size"):
        train(small_coca(*STEPS, "stages.pretrain.accumulate=4"), tmp_path / "run", Watch())
