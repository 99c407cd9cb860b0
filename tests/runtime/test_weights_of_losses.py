"""What a loss owns is a part of the model: learnt, frozen, decayed, counted, saved, started and exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from compose_vlp.api import Blueprint
from compose_vlp.compiler.model import Model, build
from compose_vlp.errors import BlueprintError, UserError
from compose_vlp.interop.weights import gradients_of, load_weights, weights_of
from compose_vlp.run import Run
from compose_vlp.runtime.optimizer import AdamW, Rule, make_optimizer, parameter_paths
from compose_vlp.runtime.training.trainer import TrainOptions
from tests.docs.pages import blocks
from tests.runtime.test_training import STEPS, Watch
from tests.support import runs_in_float64

Load = Callable[..., Blueprint]
SIGMOID = "losses.contrastive={use: sigmoid, scores: [i2t, t2i]}"
SHORT = ("stages.pretrain.length=4 steps", *STEPS[1:], SIGMOID)
BIAS = "losses.contrastive.bias"


def train(blueprint: Blueprint, out: Path, watch: Watch | None = None, *, resume: bool = False) -> Run:
    options = TrainOptions(seed=1, device="cpu", checkpoint_every=2)
    return blueprint.train(out=out, options=options, track=False, listener=watch or Watch(), resume=resume)


def bias_of(run: Run) -> float:
    return float(run.asker.model.state_dict()[BIAS])


@pytest.mark.parametrize(
    ("freeze", "moves"), [((), True), ((f"freeze=[{BIAS}]",), False), (("freeze=[losses]",), False)]
)
def test_the_bias_is_learnt_unless_it_is_frozen(
    small_coca: Load, tmp_path: Path, freeze: tuple[str, ...], moves: bool
) -> None:
    run = train(small_coca(*SHORT, *freeze), tmp_path / "run")
    assert (bias_of(run) != -10) is moves


def test_the_plugin_of_the_docs_learns_its_bias(small_coca: Load, tmp_path: Path, root: Path) -> None:
    page = blocks(root / "docs" / "extending.md")
    (tmp_path / "sigmoid.py").write_text(next(block.body for block in page if block.file == "sigmoid.py"))
    overrides = (*SHORT[:-1], "losses.contrastive={use: my_sigmoid, scores: i2t}")
    run = train(small_coca(*overrides, plugins=[tmp_path / "sigmoid.py"]), tmp_path / "run")
    assert bias_of(run) != -10


def test_a_run_goes_on_with_the_bias_bit_for_bit(small_coca: Load, tmp_path: Path) -> None:
    whole = train(small_coca(*SHORT), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(small_coca(*SHORT), tmp_path / "cut", Watch(stop_after=2))
    assert bias_of(train(small_coca(*SHORT), tmp_path / "cut", resume=True)) == bias_of(whole)


def test_pieces_of_a_batch_move_the_bias_as_the_whole(small_coca: Load, tmp_path: Path) -> None:
    steps = (*SHORT, "optimizer.eps=1e-4")
    with runs_in_float64():
        whole = train(small_coca(*steps), tmp_path / "whole")
        pieces = train(small_coca(*steps, "stages.pretrain.accumulate=3"), tmp_path / "pieces")
    assert bias_of(whole) != -10
    assert bias_of(pieces) + 10 == pytest.approx(bias_of(whole) + 10, rel=1e-6)


def small(load: Load, *overrides: str) -> Model:
    return build(load(SIGMOID, *overrides).check(), seed=0)


def test_rules_decay_the_bias_by_its_path(small_coca: Load) -> None:
    paths = parameter_paths(small(small_coca).parts())
    rule = Rule((BIAS,), weight_decay=0.0, lr_scale=3.0)
    optimizer = make_optimizer(paths, AdamW(lambda _: 0.1, weight_decay=0.5, rules=(rule,)))
    (own,) = [g for g in optimizer.torch.param_groups if g["weight_decay"] == 0]
    assert [id(p) for p in own["params"]] == [id(paths[BIAS])]
    assert optimizer.set_rates(0) == 0.1 and own["lr"] == pytest.approx(0.3)


def test_the_bias_is_counted_and_exported(small_coca: Load) -> None:
    model = small(small_coca)
    assert model.component_parameters()["losses.contrastive"] == 1
    assert "losses.captioning" not in model.component_parameters()
    assert sum(model.component_parameters().values()) == sum(p.numel() for p in model.parameters())
    report = small_coca(SIGMOID).report()
    assert report.parameters["by_component"]["losses.contrastive"] == 1
    state = {name: tensor + 1 for name, tensor in weights_of(model).items()}
    assert float(state[BIAS]) == -9
    load_weights(model, state)
    assert float(model.losses_by_name.contrastive.bias.detach()) == -9
    assert float(gradients_of(model)[BIAS]) == 0
    del state[BIAS]
    with pytest.raises(UserError, match="the weights do not fit the losses"):
        load_weights(model, state)


def test_start_gives_the_bias_and_asks_for_it(small_coca: Load, tmp_path: Path) -> None:
    model = small(small_coca)
    weights = {name: tensor.clone() for name, tensor in weights_of(model).items()} | {BIAS: torch.tensor([-4.0])}
    save_file(weights, tmp_path / "all.safetensors")
    begun = Watch()
    frozen = (*SHORT, f"freeze=[{BIAS}]")
    run = train(small_coca(*frozen, f"start=[{{from: {tmp_path}/all.safetensors}}]"), tmp_path / "a", begun)
    assert bias_of(run) == -4
    del weights[BIAS]
    save_file(weights, tmp_path / "few.safetensors")
    start = f"{{from: {tmp_path}/few.safetensors}}"
    with pytest.raises(UserError, match=rf"no file has a weight for {BIAS}"):
        train(small_coca(*frozen, f"start=[{start}]"), tmp_path / "b")
    run = train(small_coca(*frozen, f"start=[{start}, {{new: losses.contrastive}}]"), tmp_path / "c")
    assert bias_of(run) == -10


def test_a_pattern_of_a_loss_that_is_not_there_is_a_mistake(small_coca: Load) -> None:
    with pytest.raises(BlueprintError, match=r"no loss is called `contrastiv`") as mistake:
        small_coca(SIGMOID, "freeze=[losses.contrastiv.bias]").check()
    assert mistake.value.problems[0].hints[0].startswith("did you mean 'losses.contrastive'")


def test_a_stage_may_train_the_loss_alone(small_coca: Load, tmp_path: Path) -> None:
    run = train(small_coca(*SHORT, f"stages.pretrain.train=[{BIAS}]"), tmp_path / "run")
    fresh = build(run.blueprint, seed=1).state_dict()
    moved = {n for n, t in run.asker.model.state_dict().items() if not torch.equal(t, fresh[n])}
    assert moved == {BIAS}


@pytest.mark.parametrize("name", ["albef", "blip", "coca"])
def test_the_tiny_papers_take_the_sigmoid_loss_by_an_override(name: str) -> None:
    loss = "contrastive" if name == "coca" else "itc"
    overrides = [f"losses.{loss}={{use: sigmoid, scores: [i2t, t2i]}}", "components.similarity.temperature=0.1"]
    model = build(Blueprint.load(f"tiny/{name}", overrides=overrides).check(), "meta")
    assert f"losses.{loss}.bias" in parameter_paths(model.parts())
