"""A model's weights as one file: adapters merged, or beside the maps that they adapt."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from compose_vlp.api import Blueprint
from compose_vlp.blueprint.sections import Start
from compose_vlp.compiler.compile import compile_stage
from compose_vlp.compiler.model import Model, Step, build
from compose_vlp.compiler.synthetic import synthetic_batch, synthetic_tokenizers
from compose_vlp.errors import UserError
from compose_vlp.graph.graph import CheckedBlueprint
from compose_vlp.interop.export import export
from compose_vlp.interop.start import initialiser
from tests.support import assert_near
from tests.tiny_papers import PAPERS, tiny_paper

LORA = '+adapters.lora={use: lora, match: "**", rank: 2, alpha: 3, dropout: 0.2}'


def learnt(checked: CheckedBlueprint) -> Model:
    """A model whose adapters do something, in the teacher too."""
    model = build(checked, seed=3)
    for name, parameter in model.named_parameters():
        if name.endswith(".up"):
            nn.init.normal_(parameter, std=0.3)
    model.start_teachers(list(checked.teachers))
    return model


def begun(checked: CheckedBlueprint, file: Path, new: tuple[str, ...] = ()) -> tuple[Model, list[str]]:
    """A model that starts from a file, and what is told."""
    items = [Start.model_validate({"from": str(file)})]
    items += [Start.model_validate({"new": new})] if new else []
    model, notes = build(checked, seed=9), list[str]()
    initialiser(dataclasses.replace(checked, start=tuple(items)), notes.append)(model)
    return model, notes


def losses(checked: CheckedBlueprint, model: Model) -> dict[str, torch.Tensor]:
    stage = list(checked.stages)[-1]
    compiled = compile_stage(checked, stage)
    model.tokenizers = synthetic_tokenizers(checked)
    torch.manual_seed(5)
    batch = synthetic_batch(compiled.plan, 4, "cpu")
    torch.manual_seed(6)
    actual = model.double().eval()(compiled.run, in_double(batch), Step(checked.constants_and_starts()))
    return {name: loss.value.detach() for name, loss in actual.items()}


def in_double(batch: object) -> object:
    from torch.utils import _pytree as pytree

    return pytree.tree_map_only(torch.Tensor, lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, batch)


@pytest.mark.parametrize("paper", PAPERS)
def test_the_merged_file_is_the_adapted_model_without_adapters(paper: str, tmp_path: Path) -> None:
    plain, adapted = tiny_paper(paper).check(), tiny_paper(paper, LORA).check()
    model, file = learnt(adapted), tmp_path / "merged.safetensors"
    written = export(model, file)
    assert written.merged["lora"] >= 8 and written.tensors == len(load_file(file))
    assert not any("lora" in name for name in load_file(file))
    base, notes = begun(plain, file)
    assert not any("left over" in line for line in notes)
    mine, reference, without = losses(plain, base), losses(adapted, model), losses(plain, build(plain, seed=3))
    for name in reference:
        assert_near(mine[name], reference[name], within=1e-5)  # merged in float32
    assert any(float((mine[name] - without[name]).abs()) > 1e-3 for name in mine), "the adapters did something"


def test_apart_the_file_holds_both_and_either_model_takes_its_own(tmp_path: Path) -> None:
    plain, adapted = tiny_paper("CoCa").check(), tiny_paper("CoCa", LORA).check()
    model, file = learnt(adapted), tmp_path / "apart.safetensors"
    assert export(model, file, apart=True).merged == {}
    again, _ = begun(adapted, file)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    base, notes = begun(plain, file)
    assert any("left over" in line and ".lora." in line for line in notes)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in base.state_dict().items())


@pytest.mark.parametrize("paper", ["ALBEF", "CoCa"])
def test_base_weights_load_and_adapters_start_afresh_without_being_named(paper: str, tmp_path: Path) -> None:
    plain, adapted = tiny_paper(paper).check(), tiny_paper(paper, LORA).check()
    base, file = build(plain, seed=4), tmp_path / "base.safetensors"
    base.start_teachers(list(plain.teachers))
    export(base, file)
    model, notes = begun(adapted, file)
    state = model.state_dict()
    for name, tensor in base.state_dict().items():
        assert torch.equal(tensor, state[name])
    ups = [tensor for name, tensor in state.items() if name.endswith(".lora.up")]
    assert ups and not any(tensor.any() for tensor in ups)
    assert any("weights start anew: " in line and ".lora" in line for line in notes)


def test_a_base_weight_that_no_file_has_is_still_missed(tmp_path: Path) -> None:
    adapted, file = tiny_paper("CoCa", LORA).check(), tmp_path / "part.safetensors"
    export(build(tiny_paper("CoCa").check(), seed=4), tmp_path / "base.safetensors")
    kept = load_file(tmp_path / "base.safetensors")
    lost = "vision.layers.0.self_attention.branch.qkv.weight"
    save_file({name: tensor for name, tensor in kept.items() if name != lost}, file)
    with pytest.raises(UserError, match="no file has a weight for") as caught:
        begun(adapted, file)
    assert lost in str(caught.value) and "lora" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"), [("weights.bin", "is no .safetensors file"), ("a/b.safetensors", "cannot be")]
)
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "a").write_text("a file, and no folder")
    with pytest.raises(UserError, match=says):
        export(build(tiny_paper("CoCa").check(), seed=0), tmp_path / name)


def test_a_map_whose_weight_is_a_table_of_words_too_is_merged_nowhere(tmp_path: Path) -> None:
    head = "components.lm_head={use: linear_head, classes: 512, share: {weight: unimodal.embedding}}"
    adapter = "+adapters.lora={use: lora, match: lm_head, rank: 2}"
    model = build(Blueprint.load("tiny/coca", overrides=[head, adapter]).check(), seed=0)
    with pytest.raises(UserError, match=r"its weight is also unimodal\.embedding\.weight") as caught:
        export(model, tmp_path / "merged.safetensors")
    assert "--apart" in caught.value.problems[0].hints[0] and not list(tmp_path.iterdir())
    assert export(model, tmp_path / "apart.safetensors", apart=True).merged == {}
