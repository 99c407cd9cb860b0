"""Programs: passes change no number, the source is what runs, and generation with caches equals recomputing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from compose_vlp.api import Blueprint
from compose_vlp.compiler.compile import compile_plan, compile_stage
from compose_vlp.compiler.incremental import compile_incremental
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.passes import PASSES
from compose_vlp.compiler.synthetic import synthetic_batch
from compose_vlp.errors import UserError
from compose_vlp.graph.plan import Ref
from compose_vlp.runtime.inference.generate import generate
from compose_vlp.runtime.inference.search import Search
from compose_vlp.values import Text
from tests.support import assert_near, in_float64

pytestmark = pytest.mark.usefixtures("small_chunks")

Load = Callable[..., Blueprint]
EVERY = tuple(PASSES)


def ragged(batch: dict[str, object]) -> dict[str, object]:
    caption = batch["caption"]
    assert isinstance(caption, Text)
    lengths = torch.tensor([caption.ids.shape[1], 5, 9, 3])
    inside = torch.arange(caption.ids.shape[1]) < lengths[:, None]
    return {**batch, "caption": Text(caption.ids * inside, lengths, caption.frame)}


def losses_and_gradients(blueprint: Blueprint, without: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    checked = blueprint.check()
    compiled = compile_stage(checked, "pretrain", without=without)
    model = build(checked, seed=3).double()
    batch = in_float64(ragged(synthetic_batch(compiled.plan, 4, "cpu")))
    losses = {name: loss.value for name, loss in model(compiled.run, batch, Step()).items()}
    torch.stack(list(losses.values())).sum().backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("without", [(), *[(name,) for name in EVERY]], ids=lambda names: "+".join(names) or "all on")
def test_each_pass_keeps_losses_and_gradients(small_coca: Load, without: tuple[str, ...]) -> None:
    plain_losses, plain_gradients = losses_and_gradients(small_coca(), EVERY)
    losses, gradients = losses_and_gradients(small_coca(), without)
    assert losses.keys() == plain_losses.keys() == {"contrastive", "captioning"}
    for name, loss in losses.items():
        assert_near(loss, plain_losses[name])
    assert gradients.keys() == plain_gradients.keys()
    for name, gradient in gradients.items():
        assert_near(gradient, plain_gradients[name], floor=1e-12, what=name)


def test_unread_values_are_pruned_and_get_no_gradient(small_coca: Load) -> None:
    checked = small_coca().check()
    compiled = compile_stage(checked, "pretrain")
    assert "pool_joint" in checked.components
    assert "pool_joint" not in compiled.source
    assert "pool_joint" not in compile_stage(checked, "pretrain", without=["prune"]).source, "nothing at all reads it"
    asked = small_coca("+outputs.fused=fused").check()
    assert "pool_joint" in compile_stage(asked, "pretrain", without=["prune"]).source
    assert "pool_joint" not in compile_stage(asked, "pretrain").source
    _, gradients = losses_and_gradients(small_coca(), ())
    assert not any(name.startswith("components.pool_joint.") for name in gradients)


def test_an_inactive_loss_takes_its_branch_along(small_coca: Load) -> None:
    compiled = compile_stage(small_coca("losses.captioning.weight=0").check(), "pretrain")
    assert list(compiled.plan.results) == ["contrastive"]
    assert "multimodal" not in compiled.source and "lm_head" not in compiled.source


def test_equal_calls_are_made_once_unless_they_draw(small_coca: Load) -> None:
    twice = "fused=first(pool_joint(multimodal(words.tokens, context=visual)))"
    plan = {"logits": Ref("logits"), "fused": Ref("fused")}
    for overrides, calls in (((), 1), (("components.multimodal.dropout=0.1",), 2)):
        checked = small_coca(twice, *overrides).check()
        compiled = compile_plan(checked, "both", plan, without=["batch"])
        assert compiled.source.count("m.multimodal(") == calls


def test_logits_are_computed_at_labelled_positions_only(small_coca: Load) -> None:
    checked = small_coca().check()
    compiled = compile_stage(checked, "pretrain")
    model = build(checked, seed=0)
    rows: list[int] = []
    head = model.components.get_submodule("lm_head")
    head.register_forward_hook(lambda module, args, result: rows.append(result.scores.numel() // 300))
    batch = ragged(synthetic_batch(compiled.plan, 4, "cpu"))
    model(compiled.run, batch, Step())
    assert rows == [(12 - 1) + (5 - 1) + (9 - 1) + (3 - 1)]


def test_frozen_towers_run_without_gradients(small_coca: Load) -> None:
    checked = small_coca().check()
    compiled = compile_stage(checked, "pretrain", trainable=lambda name: name in ("multimodal", "lm_head", "text_proj"))
    assert "    with torch.no_grad():\n        visual_vision = m.vision(image)" in compiled.source
    model = build(checked, seed=0)
    for name in ("vision", "pool_many", "unimodal", "pool_one", "image_proj", "similarity"):
        model.components.get_submodule(name).requires_grad_(False)
    losses = model(compiled.run, synthetic_batch(compiled.plan, 4, "cpu"), Step())
    torch.stack([loss.value for loss in losses.values()]).sum().backward()
    assert torch.is_grad_enabled()
    touched = {
        n.split(".")[1] for n, p in model.named_parameters() if p.grad is not None and n.startswith("components")
    }
    assert touched == {"multimodal", "lm_head", "text_proj"}


def test_unknown_pass_is_refused_with_the_nearest(small_coca: Load) -> None:
    with pytest.raises(UserError, match="no pass is called 'prun'") as error:
        compile_stage(small_coca().check(), "pretrain", without=["prun"])
    assert "prune" in error.value.problems[0].hints[0]


def test_source_names_the_blueprint_line_of_every_call(small_coca: Load) -> None:
    compiled = compile_stage(small_coca().check(), "pretrain")
    calls = [line for line in compiled.source.splitlines() if " = " in line and "(" in line]
    assert calls and all("coca.yaml:" in line or "command line:" in line for line in calls)


@pytest.mark.parametrize("how", [{"beams": 1}, {"beams": 3}, {"top_p": 0.8}], ids=["greedy", "beams", "nucleus"])
def test_generation_with_caches_equals_recomputing(small_coca: Load, how: dict[str, float]) -> None:
    checked = small_coca().check()
    programs = compile_incremental(checked, "caption")
    assert programs.cached == {"words", "joint"}
    model: Model = build(checked, seed=5).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # distinct words, not the same one again and again
    batch = in_float64({"image": synthetic_batch(programs.whole.plan, 4, "cpu")["image"]})
    start = torch.full((4, 1), 2)
    search = Search(end=1, pad=0, max_length=11, **how)  # type: ignore[arg-type]
    actual = [
        generate(
            model, programs, batch, start, search, frame=12, cached=cached, generator=torch.Generator().manual_seed(1)
        )
        for cached in (True, False)
    ]
    assert actual[0].tolist() == actual[1].tolist()
    assert len({tuple(row) for row in actual[0].tolist()}) > 1, "different pictures, different texts"


def test_cached_scores_equal_recomputed_ones_at_every_word(small_coca: Load) -> None:
    from compose_vlp.runtime.inference.generate import Cached, Recomputed

    checked = small_coca().check()
    programs = compile_incremental(checked, "caption")
    model = build(checked, seed=5).eval().double()
    batch = in_float64({"image": synthetic_batch(programs.whole.plan, 3, "cpu")["image"]})
    search = Search(end=1, pad=0, max_length=11)
    words = torch.randint(2, 300, (3, 10))
    with torch.no_grad():
        cached, whole = (kind(model, programs, batch, words, search, 12) for kind in (Cached, Recomputed))
        for word in words.split(1, dim=1):
            assert_near(cached.step(word), whole.step(word))
